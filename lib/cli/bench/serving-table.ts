// A serving bench's result for people.
import type { ServingResult } from "../commands/bench-serving.js";
import { plural } from "../terminal.js";
import type { Percentiles } from "./serving.js";
import { columns, heading, limitsLine, number } from "./table.js";

export function servingTable(result: ServingResult): string {
  const { settings, workload, figures, limits } = result;
  const { requests, errors, tokens, rates, engine, floor } = figures;
  const row = (name: string, one: Percentiles | null) => [
    name,
    ...(["p50", "p90", "p95", "p99", "max"] as const).map((key) => (one ? number(one[key]) : "–")),
  ];
  const asked = "requests" in workload.amount ? workload.amount.requests : `for ${workload.amount.seconds} s`;
  const pace = workload.rate === "max" ? "all at once" : `${workload.rate} a second`;
  const shared = workload.sharedTokens > 0 ? `${workload.sharedTokens} shared + ` : "";
  const own = workload.promptTokens;
  const prompts = `${shared}${own} ${own === "1" && shared === "" ? "token" : "tokens"}`;
  const wrong = Object.entries(errors).map(([code, count]) => `, ${code} ${count}`);
  const level = (mean: number | null | undefined, what: string, max: number | null | undefined) =>
    typeof mean === "number" ? `${number(mean)} ${what} (at most ${max})` : `– ${what}`;
  const { running, waiting, kv } = engine;
  return `${heading(result)}, ${plural(settings.maxConcurrent, "request")} at once
${limitsLine(limits)}
requests: ${asked}, ${pace}, prompts of ${prompts}, answers of ${workload.answerTokens}, seed ${workload.seed}

finished ${requests.finished}, cancelled ${requests.cancelled}, refused ${requests.refused}, failed ${requests.failed} in ${number(figures.seconds)} s${wrong.join("")}
${number(rates.requestsPerSecond)} requests/s, prompts ${number(rates.promptTokensPerSecond)} tokens/s (${tokens.cached} of ${tokens.prompt} from the cache), answers ${number(rates.answerTokensPerSecond)} tokens/s

${columns(
  [
    ["ms", "p50", "p90", "p95", "p99", "max"],
    row("queue", figures.queueMs),
    row("time to first token", figures.timeToFirstTokenMs),
    row("time between tokens", figures.timeBetweenTokensMs),
    row("total", figures.totalMs),
  ],
  [0],
)}

batches: ${plural(engine.steps, "step")} of ${number(engine.stepTokens)} tokens; ${level(running?.mean, "requests at once", running?.max)}, ${level(waiting?.mean, "waiting", waiting?.max)}, ${engine.setAside} set aside
cache: ${level(kv.heldMean, "tokens held", kv.heldMax)} of ${kv.tokens}
busy ${number(engine.busySeconds)} s; at the limits, in full batches ${number(floor.seconds)} s (${floor.by}): ${Math.round(100 * figures.share)}%
`;
}
