// What the machine and a file say before anything is timed.
import { CallSite } from "../../call-site.js";
import { InhouseError } from "../../errors.js";
import { type ModelHeader, openHeader } from "../../header.js";
import { textOf } from "../../metadata.js";
import { native, type NativeAttention, type NativeFile, type NativeLimits } from "../../native.js";

export const limitNames = ["readBytes", "dotMultiplyAdds", "floatMultiplyAdds", "bf16MultiplyAdds"] as const;

/** Measures the machine; takes about a second. 0 threads: all; "": the best instruction set. */
export function measureLimits(threads = 0, instructionSet = ""): Promise<NativeLimits> {
  const site = new CallSite(measureLimits);
  return new Promise((resolve, reject) => {
    native().measureLimits({ threads, instructionSet }, (error, limits) => {
      if (error) reject(site.native(error));
      else resolve(limits);
    });
  });
}

/** The most that several measurements found: a limit is what can be reached, not what was. */
export function bestLimits(rounds: readonly NativeLimits[]): NativeLimits {
  const best = (name: keyof NativeLimits) => Math.max(...rounds.map((limits) => limits[name]));
  return Object.fromEntries(limitNames.map((name) => [name, best(name)])) as unknown as NativeLimits;
}

/** What a file says of its model, of which `ModelWork` and the prompts are made. */
export interface Shape {
  header: ModelHeader;
  attention: NativeAttention;
  trainedContextLength: number;
  vocabularySize: number;
}

/** The addon throws plain errors, also where the architecture is unknown. */
function attentionOf(file: NativeFile, site: CallSite): NativeAttention {
  try {
    return file.attention();
  } catch (error) {
    throw site.translate(error);
  }
}

/** Rejects as a load does, with ERR_INHOUSE_MODEL_INVALID where the file holds no embedding (a vocabulary alone). */
export async function readShape(path: string, overrides: string[] = []): Promise<Shape> {
  const site = new CallSite(readShape);
  const { header, file } = await openHeader(path, overrides, site);
  try {
    const attention = attentionOf(file, site);
    const embedding = header.tensors.find(({ name }) => name === "token_embd.weight");
    if (embedding === undefined)
      throw new InhouseError("ERR_INHOUSE_MODEL_INVALID", `${path}: tensor "token_embd.weight" is missing`);
    const architecture = textOf(header, "general.architecture");
    return {
      header,
      attention,
      trainedContextLength: Number(header.metadata.get(`${architecture}.context_length`)?.value),
      vocabularySize: embedding.shape[1] ?? 1,
    };
  } finally {
    file.close();
  }
}
