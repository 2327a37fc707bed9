// Errors that arise later, on another thread or behind an await, still name the line that called us.
import { performance } from "node:perf_hooks";

import { InhouseError, type InhouseErrorCode } from "./errors.js";
import type { NativeError } from "./native.js";

/** Where and when a public function was called. Cheap to make: the text is written when it is needed. */
export class CallSite {
  /** By `performance.now()`. */
  readonly called = performance.now();
  readonly #holder: { stack?: string } = {};

  /** The public function that was called, or the object and the name of its method; its own frames are left out. */
  constructor(...called: [(...args: never[]) => unknown] | [owner: object, method: string]) {
    const [owner, method] = called;
    const above = method === undefined ? owner : (owner as Record<string, unknown>)[method];
    Error.captureStackTrace(this.#holder, above as () => unknown);
  }

  /** An error with the caller's stack. */
  error(code: InhouseErrorCode, message: string, options?: ErrorOptions): InhouseError {
    return this.place(new InhouseError(code, message, options));
  }

  /** The error that the addon reported. */
  native(error: NativeError = { code: "ERR_INHOUSE_INTERNAL", message: "the engine failed" }): InhouseError {
    return this.error(error.code, error.message);
  }

  /** What was thrown; InhouseErrors, and errors of the addon made such, get the caller's stack. */
  translate(thrown: unknown): unknown {
    if (InhouseError.is(thrown)) return this.place(thrown);
    const { code, message } = (thrown ?? {}) as Partial<NativeError>;
    if (typeof code === "string" && code.startsWith("ERR_INHOUSE_")) return this.error(code, String(message));
    return thrown;
  }

  private place(error: InhouseError): InhouseError {
    const stack = this.#holder.stack ?? "";
    const frames = stack.indexOf("\n    at ");
    if (frames >= 0) {
      const text = `${error.name}: ${error.message}${stack.slice(frames)}`;
      Object.defineProperty(error, "stack", { value: text, writable: true, configurable: true });
    }
    return error;
  }
}
