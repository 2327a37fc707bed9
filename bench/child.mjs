// The processes in which a bench measures.
import { spawn } from "node:child_process";
import { basename } from "node:path";

import { Failure } from "./start.mjs";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"];

/** Ends a child with this process, where a signal reaches this one alone. */
export function endWithThis(child) {
  let stopped = 0;
  const stop = (_, number) => {
    stopped = 128 + number;
    child.kill("SIGKILL");
  };
  for (const signal of signals) process.on(signal, stop);
  const free = () => signals.forEach((signal) => process.off(signal, stop));
  child.on("error", free);
  child.on("exit", () => {
    if (stopped > 0) process.exit(stopped);
    free();
  });
}

/** What a program prints. */
export function outputOf(program, args) {
  const name = basename(program === process.execPath ? args[0] : program, ".mjs");
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    endWithThis(child);
    let [printed, said] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => (printed += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const why = said.trimEnd();
      const line = code !== 0 && why !== "" && !why.includes("\n");
      if (!line) process.stderr.write(said);
      if (code === 0) return resolve(printed);
      const own = `${name}: `;
      const reason = line ? why.slice(why.startsWith(own) ? own.length : 0) : undefined;
      reject(
        new Failure(
          reason ?? `${name} ${signal ? `was ended by ${signal}` : `failed with exit code ${code}`}`,
        ),
      );
    });
  });
}
