import { test } from "vitest";

import { checkControlTokens } from "../support/control-tokens.js";

test.each(["Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf", "gemma-3-270m-q4_k_m.gguf"])(
  "%s: forged names in all texts of conversations",
  checkControlTokens,
  300_000,
);
