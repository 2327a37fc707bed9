import { TokenKind } from "./data.js";

/** Texts of tokens that end a generation whatever the file says, as in other GGUF runtimes. */
const anyKind = new Set([
  "<|eot_id|>",
  "<|eom_id|>",
  "<|im_end|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<|calls|>",
  "<|flush|>",
  "<end_of_turn>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<EOT>",
  "_<EOT>",
  "<end_of_utterance>",
  "<turn|>",
  "<|tool_response>",
  "<｜end▁of▁sentence｜>",
]);

/**
 * Such texts that also occur as ordinary ones ("</s>" is a HTML tag in Gemma's vocabulary), and the ends of code infill:
 * they count only where the file says that the token is a control token.
 */
const controlOnly = new Set([
  "</s>",
  "<eos>",
  "[EOT]",
  "[EOS]",
  "[e~[",
  "<|fim_pad|>",
  "<fim-pad>",
  "<fim_pad>",
  "<|fim_repo|>",
  "<|repo_name|>",
  "<fim-repo>",
  "<reponame>",
  "<|file_sep|>",
]);

/** Collects the tokens that end a generation. */
export class StopTokens {
  private readonly byText = new Map<string, number>();

  /** Looks at one token of the vocabulary; whether its name makes it one of these. */
  consider(id: number, kind: number, text: Uint8Array): boolean {
    if (kind === TokenKind.byte) return false;
    if (text.length > 40 || (text[0] !== 0x3c && text[0] !== 0x5b && text[0] !== 0x5f)) return false;
    const string = Buffer.from(text.buffer, text.byteOffset, text.length).toString();
    const stops = anyKind.has(string) || (kind === TokenKind.control && controlOnly.has(string));
    if (stops) this.byText.set(string, id);
    return stops;
  }

  /** All stop tokens in ascending order; `declared` are those that the file's own fields name. */
  ids(declared: readonly (number | undefined)[]): Int32Array {
    const { byText } = this;
    const channels = byText.has("<|return|>") && byText.has("<|call|>");
    const calls = (byText.has("<|call|>") || byText.has("<|calls|>")) && byText.has("<|flush|>");
    // Harmony and Solar end a channel with <|end|>, not the answer.
    if (channels || calls) byText.delete("<|end|>");
    // Gemma 4 ends with <turn|> and may write </s> as text.
    if (byText.has("<|tool_response>")) byText.delete("</s>");
    const ids = new Set(byText.values());
    for (const id of declared) if (id !== undefined) ids.add(id);
    return Int32Array.from(ids).sort();
  }
}
