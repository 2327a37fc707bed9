const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** How many bytes at the end of `bytes` are the beginning of a character whose rest is missing (0 to 3). */
export function incompleteTail(bytes: Uint8Array): number {
  const end = bytes.length;
  for (let back = 1; back <= 3 && back <= end; back++) {
    const byte = bytes[end - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const length =
      byte >= 0xf0 && byte <= 0xf4
        ? 4
        : byte >= 0xe0 && byte < 0xf0
          ? 3
          : byte >= 0xc2 && byte < 0xe0
            ? 2
            : 1;
    if (length <= back) return 0;
    return back === 1 || validSecond(byte, bytes[end - back + 1]!) ? back : 0;
  }
  return 0;
}

/** Whether a continuation byte can stand after a leading byte: no overlong forms, surrogates or values > 0x10FFFF. */
function validSecond(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second < 0xa0;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second < 0x90;
  return true;
}

/** Up to so many bytes of ASCII are text sooner than TextDecoder gets going. */
const fewBytes = 24;

/** Decodes bytes to text as TextDecoder does: what is not UTF-8 becomes U+FFFD; a byte order mark is kept. */
export function decodeBytes(bytes: Uint8Array): string {
  if (bytes.length <= fewBytes && isAscii(bytes)) return String.fromCharCode.apply(null, bytes as never);
  return decoder.decode(bytes);
}

function isAscii(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte >= 0x80) return false;
  return true;
}

const nothing = new Uint8Array(0);

/**
 * Makes text from bytes that arrive in pieces, without ever splitting a character: an incomplete one is held back until
 * the rest arrives. All results joined equal the text of all bytes joined.
 */
export class Utf8Stream {
  private held: Uint8Array = nothing;

  /** The text that is complete now; may be empty. */
  push(bytes: Uint8Array): string {
    if (bytes.length === 0) return "";
    let all = bytes;
    if (this.held.length > 0) {
      all = new Uint8Array(this.held.length + bytes.length);
      all.set(this.held);
      all.set(bytes, this.held.length);
    }
    const complete = all.length - incompleteTail(all);
    if (complete === all.length) {
      this.held = nothing;
      return decodeBytes(all);
    }
    this.held = all.slice(complete);
    return decodeBytes(all.subarray(0, complete));
  }

  /** The end: an incomplete character becomes U+FFFD. The stream can be used again afterwards. */
  flush(): string {
    const rest = this.held;
    this.held = nothing;
    return rest.length === 0 ? "" : decodeBytes(rest);
  }
}

/** Makes text from token ids that arrive one by one; see `Tokenizer.detokenizer`. */
export class Detokenizer {
  private readonly stream = new Utf8Stream();

  /** @param bytesOf the output bytes of a token; throws for an id out of range */
  constructor(private readonly bytesOf: (id: number) => Uint8Array) {}

  /** The text that is complete with this token; may be empty. */
  push(id: number): string {
    return this.stream.push(this.bytesOf(id));
  }

  /** The end: an incomplete character becomes U+FFFD. */
  flush(): string {
    return this.stream.flush();
  }
}
