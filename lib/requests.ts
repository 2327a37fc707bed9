// The requests of one engine: events go to whoever submitted. Held by the addon's callback, so it must not lead back
// to the model unless a request runs: a model that is dropped while idle can then be collected.
import type { NativeEvent } from "./native.js";

/** Who submitted a request. */
export interface Receiver {
  /** Called with each event; after one with `finish` other than "none" there are no more. */
  receive(event: NativeEvent): void;
  /** The engine has ended without a last event for this request. */
  lost(): void;
}

export class Requests {
  readonly #receivers = new Map<number, Receiver>();

  add(request: number, receiver: Receiver): void {
    this.#receivers.set(request, receiver);
  }

  /** The addon's callback. */
  readonly deliver = (events: NativeEvent[]): void => {
    for (const event of events) {
      const receiver = this.#receivers.get(event.request);
      if (event.finish !== "none") this.#receivers.delete(event.request);
      guarded(() => receiver?.receive(event));
    }
  };

  /** After the engine has ended. */
  endAll(): void {
    const left = [...this.#receivers.values()];
    this.#receivers.clear();
    for (const receiver of left) guarded(() => receiver.lost());
  }
}

// What a callback of the addon throws would be lost: it becomes an uncaught exception instead. Nothing that users
// pass in is called here; this is for defects of our own.
function guarded(action: () => void): void {
  try {
    action();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
