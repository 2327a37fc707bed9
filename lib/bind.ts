/** Lets methods of a class work on their own, as in `const { chat } = model`. They stay hidden from listings. */
export function bindMethods<T extends object>(object: T, ...methods: (keyof T & string)[]): void {
  for (const method of methods) {
    const value: unknown = (object[method] as (...args: unknown[]) => unknown).bind(object);
    Object.defineProperty(object, method, { value, writable: true, configurable: true });
  }
}
