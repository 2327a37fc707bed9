// Project-local Python environments in .cache, each with the packages of one list of requirements. Where the
// system's Python cannot make virtual environments (Debian without python3-venv), the packages go into a
// plain folder that PYTHONPATH names. Does nothing when an environment is already there and current.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const windows = process.platform === "win32";
const oldest = [3, 9];

function run(command, args, env = process.env) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", env });
  return {
    ok: status === 0,
    stdout: stdout ?? "",
    text: `${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`,
  };
}

/** The system's Python: $PYTHON, or the first on PATH that is new enough. Throws with a remedy otherwise. */
function findPython() {
  const candidates = process.env.PYTHON ? [[process.env.PYTHON]] : [["python3"], ["python"], ["py", "-3"]];
  const seen = [];
  for (const [command, ...args] of candidates) {
    const { ok, stdout } = run(command, [...args, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
    if (!ok) continue;
    const [major, minor] = stdout.trim().split(".").map(Number);
    if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return [command, ...args];
    seen.push(`${command} is ${stdout.trim()}`);
  }
  throw new Error(
    `Python ${oldest.join(".")} or newer is needed (${seen.join(", ") || "none found"}). ` +
      "Install it (Debian: apt-get install python3 python3-venv) or name one in the variable PYTHON.",
  );
}

function environment(folder, kind, python) {
  if (kind === "venv") return { python: [venvPython(folder)], env: { ...process.env } };
  const path = [join(folder, "site"), process.env.PYTHONPATH].filter(Boolean).join(windows ? ";" : ":");
  return { python, env: { ...process.env, PYTHONPATH: path } };
}

const venvPython = (folder) =>
  windows ? join(folder, "Scripts", "python.exe") : join(folder, "bin", "python");

/**
 * Makes the environment where it is missing or older than its list.
 * @param {string} list the list of requirements, in the repository's root
 * @param {string} name of the environment's folder in .cache
 * @returns {{ python: string[], env: NodeJS.ProcessEnv }} the command that starts its Python, and the
 *   environment to start it with
 */
export function pythonEnvironment(list = "requirements-dev.txt", name = "python") {
  const folder = join(root, ".cache", name);
  const requirements = join(root, list);
  const stamp = join(folder, "installed.json");
  const wanted = createHash("sha256").update(readFileSync(requirements)).digest("hex");
  if (existsSync(stamp)) {
    const installed = JSON.parse(readFileSync(stamp, "utf8"));
    if (installed.requirements === wanted) {
      const made = environment(folder, installed.kind, installed.python);
      if (run(made.python[0], [...made.python.slice(1), "-c", ""], made.env).ok) return made;
    }
  }

  const python = findPython();
  const [command, ...args] = python;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const pip = [
    "-m",
    "pip",
    "--disable-pip-version-check",
    "install",
    "--quiet",
    "--requirement",
    requirements,
  ];
  let kind = "venv";
  let result = run(command, [...args, "-m", "venv", folder]);
  if (result.ok) {
    result = run(venvPython(folder), pip);
  } else {
    const venvProblem = result.text.trim();
    if (!run(command, [...args, "-m", "pip", "--version"]).ok) {
      throw new Error(
        `This Python has neither venv nor pip (${command}). Debian: apt-get install python3-venv.\n${venvProblem}`,
      );
    }
    kind = "target";
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    result = run(command, [...args, ...pip, "--target", join(folder, "site")]);
  }
  if (!result.ok) throw new Error(`pip could not install ${list}:\n${result.text.trim()}`);
  writeFileSync(stamp, JSON.stringify({ requirements: wanted, kind, python }));
  return environment(folder, kind, python);
}

/** The path of the pinned clang-format program. */
export function clangFormat() {
  const { python, env } = pythonEnvironment();
  const code = "import clang_format, os; print(os.path.dirname(clang_format.__file__))";
  const { ok, stdout, text } = run(python[0], [...python.slice(1), "-c", code], env);
  const program = join(stdout.trim(), "data", "bin", windows ? "clang-format.exe" : "clang-format");
  if (!ok || !existsSync(program)) throw new Error(`clang-format is not where its package puts it:\n${text}`);
  return program;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    pythonEnvironment();
    console.log(clangFormat());
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
