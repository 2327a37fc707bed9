// Results as Markdown tables, for the console and docs/performance.md.
export const number = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
export const plural = (count, noun) => `${count} ${noun}${Number(count) === 1 ? "" : "s"}`;
const megabytes = (bytes) => number(bytes / 1e6);

export const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

const percent = (share) => `${Math.round(100 * share)}%`;
const shown = (unit, value) => (unit === "bytes" ? megabytes(value) : number(value));
const titled = (name, unit) => `${name}, ${unit === "bytes" ? "MB" : unit}`;

/**
 * Figures of one model: value (threads), spread, floor and share of inhouse, and each peer's value with the ratio, where
 * the peer has one.
 */
export function modelTable({ figures }) {
  const peers = [...new Set(figures.flatMap(({ ratios }) => Object.keys(ratios)))];
  const rows = figures.map(({ name, unit, engines, ratios }) => {
    const { inhouse } = engines;
    const cell = ({ value, settings }) => `${shown(unit, value)} (${settings.threads})`;
    return [
      titled(name, unit),
      cell(inhouse),
      `${shown(unit, inhouse.low)} – ${shown(unit, inhouse.high)}`,
      `${shown(unit, inhouse.floor.value)} (${inhouse.floor.by})`,
      percent(inhouse.share),
      ...peers.flatMap((peer) =>
        engines[peer] === undefined
          ? ["–", "–", "–"]
          : [cell(engines[peer]), percent(engines[peer].share), number(ratios[peer])],
      ),
    ];
  });
  const head = ["", "inhouse (threads)", "rounds", "floor (by)", "share"];
  return table([...head, ...peers.flatMap((peer) => [`${peer} (threads)`, "share", "ratio"])], rows);
}

/** Where the time of steps goes: milliseconds of each op and their share of its floor, of ops that count. */
export function profileTable({ steps }) {
  const counts = ({ ms }, { stepMs }) => ms > 0.01 * stepMs;
  const names = new Set(
    steps.flatMap((step) => step.ops.filter((op) => counts(op, step)).map(({ op }) => op)),
  );
  const cell = ({ ms, floorMs }) => number(ms) + (floorMs > 0 ? ` (${percent(floorMs / ms)})` : "");
  const rows = [...names].map((name) => [
    name,
    ...steps.map(({ ops }) => cell(ops.find(({ op }) => op === name) ?? { ms: 0, floorMs: 0 })),
  ]);
  const whole = ["**step**", ...steps.map(({ stepMs, floorMs }) => cell({ ms: stepMs, floorMs }))];
  const limits = ["read bandwidth, GB/s", ...steps.map(({ readGB }) => number(readGB))];
  return table(["ms (share)", ...steps.map(({ name }) => name)], [...rows, whole, limits]);
}

/** Matrix products of the kernels beside the limits at one number of threads. */
export function kernelTable({ products, readGB, dotGMAC, fmaGMAC, bf16GMAC }) {
  const rows = products.map(({ type, rows, cols, vectorGB, batch512GMAC }) => {
    const peak = type === "BF16" ? bf16GMAC : /^F\d/.test(type) ? fmaGMAC : dotGMAC;
    return [
      `${type}, ${rows} × ${cols}`,
      `${number(vectorGB)} (${percent(vectorGB / readGB)})`,
      `${number(batch512GMAC)} (${percent(batch512GMAC / peak)})`,
    ];
  });
  const head = [
    "",
    "1 row, GB/s of the file (share of bandwidth)",
    "512 rows, G multiply-adds/s (share of peak)",
  ];
  return table(head, rows);
}

/** Medians, and what all samples but the slowest hundredth lie between. */
export function typescriptTable(figures) {
  const rows = figures.map(({ name, unit, value, low, high }) => [
    titled(name, unit),
    number(value),
    `${number(low)} – ${number(high)}`,
  ]);
  return table(["", "median", "all but the slowest 1%"], rows);
}

/** Instructions per multiply-add (the share that multiplies): a row for each type, two columns for each set. */
export function instructionTable({ counts }) {
  const unique = (key) => [...new Set(counts.map((count) => count[key]))];
  const columns = unique("isa").flatMap((isa) => unique("activationRows").map((rows) => ({ isa, rows })));
  const cell = (type, { isa, rows }) => {
    const count = counts.find((c) => c.isa === isa && c.type === type && c.activationRows === rows);
    const { instructionsPerMultiplyAdd: all, multipliesPerMultiplyAdd: least } = count;
    return `${all.toFixed(3)} (${percent(least / all)})`;
  };
  const head = columns.map(({ isa, rows }) => `${isa}, ${plural(rows, "row")}`);
  return table(
    ["", ...head],
    unique("type").map((type) => [type, ...columns.map((column) => cell(type, column))]),
  );
}
