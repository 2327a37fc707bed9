// The template engine ships a CommonJS build without types for it, so its ES-module types are named here.
import type * as Jinja from "@huggingface/jinja" with { "resolution-mode": "import" };

// eslint-disable-next-line @typescript-eslint/no-require-imports -- literal, so that bundlers follow it
const jinja = require("@huggingface/jinja") as typeof Jinja;

export const { Environment, Interpreter, parse, tokenize } = jinja;
export type Environment = Jinja.Environment;
export type Program = ReturnType<typeof Jinja.parse>;
