// The requests of one engine: events go to whoever submitted. Held by the addon's callback, so it must not lead back
// to the model unless a request runs: a model that is dropped while idle can then be collected.
import type { NativeDetails } from "./native.js";

/** What one request got since the last call. */
export interface RequestEvent {
  readonly request: number;
  readonly tokens: number[];
  /** UTF-8; may begin and end inside a character. Valid during the call. */
  readonly text: Uint8Array;
  readonly details: NativeDetails;
}

/** Who submitted a request. */
export interface Receiver {
  /** Called with each event; after one with `finish` other than "none" there are no more. */
  receive(event: RequestEvent): void;
  /** The engine has ended without a last event for this request. */
  lost(): void;
}

/** Gives the engine an order about a request. Where the engine has ended, nothing happens: `lost` follows. */
export function tell(order: () => void): void {
  try {
    order();
  } catch {
    // The engine has ended.
  }
}

const noDetails: NativeDetails = Object.freeze({ finish: "none" });
const noText = new Uint8Array();

export class Requests {
  readonly #receivers = new Map<number, Receiver>();
  /** Those whose last event has come, and who have not taken it yet. */
  readonly #behind = new Set<Receiver>();

  add(request: number, receiver: Receiver): void {
    this.#receivers.set(request, receiver);
  }

  /** The addon's callback; see NativeEventsCallback. */
  readonly deliver = (packed: Int32Array, details: NativeDetails[]): void => {
    const bytes = new Uint8Array(packed.buffer);
    for (let at = 0; at < packed.length;) {
      const request = (packed[at]! >>> 0) + 2 ** 32 * packed[at + 1]!;
      const place = packed[at + 2]!;
      const count = packed[at + 3]!;
      const length = packed[at + 4]!;
      at += 5;
      const tokens: number[] = [];
      for (const end = at + count; at < end; at++) tokens.push(packed[at]!);
      const text = length > 0 ? bytes.subarray(4 * at, 4 * at + length) : noText;
      at += (length + 3) >> 2;
      const more = place > 0 ? details[place - 1]! : noDetails;
      const receiver = this.#receivers.get(request);
      if (more.finish !== "none") this.#receivers.delete(request);
      try {
        receiver?.receive({ request, tokens, text, details: more });
      } catch (error) {
        raise(error);
      }
    }
  };

  /** Has `lost` called also after the receiver's last event, until `caughtUp`. */
  fallBehind(receiver: Receiver): void {
    this.#behind.add(receiver);
  }

  caughtUp(receiver: Receiver): void {
    this.#behind.delete(receiver);
  }

  /** After the engine has ended. */
  endAll(): void {
    const left = [...this.#receivers.values(), ...this.#behind];
    this.#receivers.clear();
    this.#behind.clear();
    for (const receiver of left) {
      try {
        receiver.lost();
      } catch (error) {
        raise(error);
      }
    }
  }
}

// What a callback of the addon throws would be lost: it becomes an uncaught exception instead. Nothing that users
// pass in is called here; this is for defects of our own.
function raise(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
