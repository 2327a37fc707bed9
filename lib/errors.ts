/**
 * Every stable error code, without the `ERR_INHOUSE_` prefix in front. The native core's codes
 * (native/core/error.h) come first; those below them arise in TypeScript alone. docs/errors.md explains each.
 */
export const errorCodes = [
  "INVALID_ARGUMENT",
  "FILE_NOT_FOUND",
  "FILE_READ",
  "FILE_WRITE",
  "STATE_INVALID",
  "STATE_EMPTY",
  "FILE_CHANGED",
  "GGUF_MAGIC",
  "GGUF_VERSION",
  "GGUF_TRUNCATED",
  "GGUF_INVALID",
  "GGUF_SPLIT",
  "UNSUPPORTED_TYPE",
  "UNSUPPORTED_ARCHITECTURE",
  "UNSUPPORTED_TOKENIZER",
  "MODEL_INVALID",
  "ADAPTER_INVALID",
  "DEVICE_UNAVAILABLE",
  "DEVICE_LOST",
  "OUT_OF_MEMORY",
  "MEMORY_LOCK",
  "CONTEXT_OVERFLOW",
  "TOKEN_OUT_OF_RANGE",
  "QUEUE_FULL",
  "TIMEOUT",
  "NUMERIC",
  "DISPOSED",
  "ABORTED",
  "INTERNAL",
  "NATIVE_LOAD",
  "TEMPLATE_MISSING",
  "TEMPLATE_INVALID",
  "TEMPLATE_LIMIT",
  "TOKENIZER_INVALID",
  "PULL_FAILED",
  "CHECKSUM_MISMATCH",
  "MODEL_NOT_FOUND",
] as const;

/** A stable error code, for example `ERR_INHOUSE_GGUF_TRUNCATED`. */
export type InhouseErrorCode = `ERR_INHOUSE_${(typeof errorCodes)[number]}`;

const brand = Symbol.for("inhouse.error");

/** The one error class of this package. `code` is stable across versions, the message is for people. */
export class InhouseError extends Error {
  override readonly name = "InhouseError";
  readonly code: InhouseErrorCode;

  constructor(code: InhouseErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    Object.defineProperty(this, brand, { value: true });
  }

  /** A plain object that survives JSON and structured cloning, which drop an error's class and code. */
  toJSON(): { name: string; code: InhouseErrorCode; message: string } {
    return { name: this.name, code: this.code, message: this.message };
  }

  /** True for an InhouseError of this or any other copy of the package, and optionally of the given code. */
  static is(value: unknown, code?: InhouseErrorCode): value is InhouseError {
    return (
      typeof value === "object" &&
      value !== null &&
      (value as Record<symbol, unknown>)[brand] === true &&
      (code === undefined || (value as InhouseError).code === code)
    );
  }
}
