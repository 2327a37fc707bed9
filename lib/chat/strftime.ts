const months = "January February March April May June July August September October November December".split(
  " ",
);
const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
const pad = (value: number, width = 2) => String(value).padStart(width, "0");

/** Python's `strftime` in the C locale and local time, for the directives that templates use. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([a-zA-Z%])/g, (directive, dash: string, letter: string) => {
    const text = directives[letter]?.(date) ?? directive;
    return dash === "-" && /^0\d/.test(text) ? text.replace(/^0+(?=\d)/, "") : text;
  });
}

const directives: Record<string, (date: Date) => string> = {
  Y: (d) => String(d.getFullYear()),
  y: (d) => pad(d.getFullYear() % 100),
  m: (d) => pad(d.getMonth() + 1),
  B: (d) => months[d.getMonth()]!,
  b: (d) => months[d.getMonth()]!.slice(0, 3),
  d: (d) => pad(d.getDate()),
  A: (d) => days[d.getDay()]!,
  a: (d) => days[d.getDay()]!.slice(0, 3),
  H: (d) => pad(d.getHours()),
  I: (d) => pad(d.getHours() % 12 || 12),
  p: (d) => (d.getHours() < 12 ? "AM" : "PM"),
  M: (d) => pad(d.getMinutes()),
  S: (d) => pad(d.getSeconds()),
  j: (d) => {
    const [year, month, day] = [d.getFullYear(), d.getMonth(), d.getDate()];
    return pad((Date.UTC(year, month, day) - Date.UTC(year, 0, 0)) / 86_400_000, 3);
  },
  "%": () => "%",
};
