// One vector for each text: the hidden states of its tokens, pooled.
import { onAbort } from "./abort.js";
import { adapterRule, type AdapterUse, adapterUse } from "./adapter.js";
import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
import { tokenIds } from "./evaluate.js";
import type { NativeAdapterUse } from "./native.js";
import { attempt, checkTokenList, invalidArgument, readOptions, type Rules, show } from "./options.js";
import { nativeOrder, orderRules } from "./request.js";
import { type Receiver, type RequestEvent, tell } from "./requests.js";
import type { RunHost } from "./run.js";
import { withinTime } from "./time-limit.js";
import { Pacer } from "./tokenizer/slices.js";
import { encodeText, type Tokenizer } from "./tokenizer/tokenizer.js";
import type { EmbedTrace } from "./trace.js";
import type { Adapter, ModelInfo, OrderOptions, Pooling, PromptOptions, ScaledAdapter } from "./types.js";

/** A text, or its token ids as they are to be taken. */
export type TextOrTokens = string | ArrayLike<number>;

/** Options of `embed`. Those of `PromptOptions` are about texts; lists of token ids are taken as they are. */
export interface EmbedOptions extends OrderOptions, PromptOptions {
  /** Begin texts with BOS and end them with EOS. Default: what the file says of each. */
  addSpecialTokens?: boolean | undefined;
  /**
   * How the hidden states of a text's tokens become one vector: their mean, the first token's or the last one's. Default:
   * what the file says (`info.pooling`), and the mean where it does not.
   */
  pooling?: Pooling | undefined;
  /** Make each vector's length 1 (default true), so that the scalar product of two is their cosine. */
  normalize?: boolean | undefined;
  /**
   * Keep so many numbers of each vector, 1 … `info.embeddingLength`: for models that were trained so that the first ones
   * count most. What is kept is normalized. Default: all.
   */
  dimensions?: number | undefined;
  /** Cut texts of more than `info.contextLength` tokens at their end; default false: they are refused. */
  truncate?: boolean | undefined;
  /** A LoRA adapter of this model. Default: none. */
  adapter?: Adapter | ScaledAdapter | undefined;
  /** Aborts: the promise then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

export const poolings = ["mean", "cls", "last"] as const;

const embedRules = {
  ...orderRules,
  addSpecialTokens: { kind: "boolean" },
  parseSpecialTokens: { kind: "boolean" },
  pooling: { kind: "choice", values: poolings },
  normalize: { kind: "boolean" },
  dimensions: { kind: "integer", min: 1, max: 2 ** 31 - 1 },
  truncate: { kind: "boolean" },
  adapter: adapterRule,
  signal: { kind: "signal" },
} as const satisfies Rules & Record<keyof EmbedOptions, unknown>;

/** A copy of a list of texts or lists of token ids, whose entries are not looked into. */
export function textList(call: string, name: string, list: unknown): TextOrTokens[] {
  if (!Array.isArray(list)) {
    throw invalidArgument(`${call}: the ${name}s are ${show(list)}; expected a list of texts`);
  }
  const texts = attempt(`${call}: the ${name}s`, () => Array.from<unknown>(list));
  for (const [i, text] of texts.entries()) {
    if (typeof text === "string" || (typeof text === "object" && text !== null)) continue;
    throw invalidArgument(`${call}: ${name} ${i} is ${show(text)}; expected a text or a list of token ids`);
  }
  return texts as TextOrTokens[];
}

/** `Model.embed`, for a model that is not disposed of. */
export async function embed(
  host: RunHost,
  info: ModelInfo,
  tokenizer: Tokenizer,
  texts: string | readonly TextOrTokens[],
  given: EmbedOptions,
  site: CallSite,
  trace?: EmbedTrace,
): Promise<Float32Array[]> {
  const list = typeof texts === "string" ? [texts] : textList("embed", "text", texts);
  const options = readOptions("embed", given, embedRules);
  const { signal, dimensions = 0 } = options;
  if (dimensions > info.embeddingLength) {
    throw invalidArgument(
      `embed: option 'dimensions' is ${dimensions}; expected at most ${info.embeddingLength}, the vectors' length`,
    );
  }
  const pooling = options.pooling ?? info.pooling;
  if (pooling === "rank") {
    throw invalidArgument(
      "embed: this file is a reranker's (its pooling type is rank), which gives no vectors; set option 'pooling'",
    );
  }
  const use = adapterUse("embed", options.adapter, host.adapterOwner);
  if (trace) trace.texts = list.length;
  signal?.throwIfAborted();
  const held = hold(use);
  try {
    const { tokens, ends } = await withinTime(options, site, (ended) =>
      encode(list, info.contextLength, tokenizer, options, ended),
    );
    if (trace) trace.tokens = tokens.length;
    if (list.length === 0) return [];
    return await new Promise((resolve, reject) => {
      const normalize = options.normalize ?? true;
      const spec = { ...nativeOrder(options, site), ...held, pooling, normalize, dimensions };
      const request = host.engine.embed(tokens, ends, spec);
      const embedding = new Embedding(list.length, site, resolve, reject);
      host.requests.add(request, embedding);
      embedding.onEnd = onAbort(signal, () => {
        tell(() => host.engine.cancel(request));
        embedding.fail(signal?.reason);
      });
    });
  } catch (error) {
    throw site.translate(error);
  } finally {
    use?.adapter.drop();
  }
}

/** What a request uses of an adapter, which stays until it is dropped: it may be disposed of meanwhile. */
export function hold(use: AdapterUse | undefined): NativeAdapterUse {
  return { adapter: use?.adapter.hold() ?? null, adapterScale: use?.scale ?? 1 };
}

/** The token ids of all texts, one after the other, and where each one's end. */
async function encode(
  texts: readonly TextOrTokens[],
  contextLength: number,
  tokenizer: Tokenizer,
  { truncate = false, addSpecialTokens, parseSpecialTokens = false }: EmbedOptions,
  signal: AbortSignal,
): Promise<{ tokens: Int32Array; ends: Uint32Array }> {
  const both = addSpecialTokens === undefined ? {} : { addBos: addSpecialTokens, addEos: addSpecialTokens };
  const options = { special: parseSpecialTokens, ...both };
  const pacer = new Pacer(signal);
  const lists: Int32Array[] = [];
  const ends = new Uint32Array(texts.length);
  let count = 0;
  for (const [i, text] of texts.entries()) {
    if (pacer.isDue) await pacer.pause();
    let ids: Int32Array;
    if (typeof text !== "string") ids = listOf(text, i, contextLength, truncate);
    else ids = await encodeText(tokenizer, text, options, signal);
    if (ids.length === 0) {
      throw invalidArgument(
        `embed: text ${i} has no tokens; expected a text that is not empty where no BOS or EOS is added`,
      );
    }
    if (ids.length > contextLength) {
      if (!truncate) throw tooLong(i, ids.length, contextLength);
      const end = ids[ids.length - 1]!;
      ids = ids.slice(0, contextLength);
      if (typeof text === "string" && (addSpecialTokens ?? tokenizer.addEos) && end === tokenizer.eosTokenId)
        ids[ids.length - 1] = end;
    }
    lists.push(ids);
    ends[i] = count += ids.length;
  }
  if (count >= 2 ** 31) {
    throw invalidArgument(`embed: the texts have ${count} tokens; expected less than 2^31 in one call`);
  }
  const tokens = new Int32Array(count);
  for (const [i, ids] of lists.entries()) tokens.set(ids, i > 0 ? ends[i - 1] : 0);
  return { tokens, ends };
}

function listOf(list: ArrayLike<number>, i: number, contextLength: number, truncate: boolean): Int32Array {
  const name = `embed: text ${i}`;
  checkTokenList(name, list);
  const { length } = list;
  if (length > contextLength && !truncate) throw tooLong(i, length, contextLength);
  const ids = attempt(name, () => Array.prototype.slice.call(list, 0, contextLength) as number[]);
  return tokenIds(name, ids, contextLength);
}

function tooLong(i: number, length: number, contextLength: number): InhouseError {
  return new InhouseError(
    "ERR_INHOUSE_CONTEXT_OVERFLOW",
    `embed: text ${i} has ${length} tokens, more than the context of ${contextLength}; shorten it, set truncate: true, ` +
      "or load the model with a larger contextLength",
  );
}

class Embedding implements Receiver {
  /** Called once, when the request has ended or its promise has. */
  onEnd = (): void => undefined;
  readonly #vectors: Float32Array[];
  #over = false;

  constructor(
    count: number,
    private readonly site: CallSite,
    private readonly resolve: (vectors: Float32Array[]) => void,
    private readonly reject: (reason: unknown) => void,
  ) {
    this.#vectors = new Array<Float32Array>(count);
  }

  receive({ details }: RequestEvent): void {
    if (this.#over) return;
    const { finish, texts = [], vectors } = details;
    if (finish === "error") this.fail(this.site.native(details.error));
    else if (finish === "cancelled") this.lost();
    else {
      for (const [i, text] of texts.entries()) {
        const length = vectors!.length / texts.length;
        this.#vectors[text] = vectors!.slice(i * length, (i + 1) * length);
      }
      if (finish === "none") return;
      this.#end();
      this.resolve(this.#vectors);
    }
  }

  lost(): void {
    this.fail(this.site.error("ERR_INHOUSE_DISPOSED", "the model was disposed of while it embedded"));
  }

  fail(reason: unknown): void {
    if (this.#over) return;
    this.#end();
    this.reject(reason);
  }

  #end(): void {
    this.#over = true;
    this.onEnd();
  }
}
