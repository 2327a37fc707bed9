import { test } from "vitest";

import { modelPath } from "../support/models.ts";
import { compareFileWithGolden } from "../support/template-golden.ts";

test("Qwen2.5 Coder's own template", () =>
  compareFileWithGolden(modelPath("Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf")));
