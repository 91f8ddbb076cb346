"use strict";
// Text to token ids: ldm/text/pretokenize.py, bpe.py and tokenizer.py in JavaScript, for `clean="openai"`.
//
// Left out: what ftfy does about broken encodings ("Ã©" for "é"), and all but the commonest HTML entities. Nobody types
// those. What a phone's keyboard does type (curly quotes, full-width letters) is mended here as there.

const BOS = "<|startoftext|>", EOS = "<|endoftext|>", END_OF_WORD = "</w>";
const WORD = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/giu;
const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'" };

const unescapeHtml = (text) => text.replace(/&(?:amp|lt|gt|quot|#39);/g, (entity) => ENTITIES[entity]);

// clean_openai: repaired, unescaped, single spaces, lowercase.
function clean(text) {
  const repaired = text
    .replace(/[\ud800-\udfff]/gu, "\ufffd") // halves of a pair (with the flag u, whole pairs do not match)
    .replace(/[\ufb00-\ufb06]|[\uff01-\uffef]|\u3000/g, (letter) => letter.normalize("NFKC")) // ligatures, full width
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\u201c-\u201f]/g, '"')
    .replace(/\r\n|[\r\u2028\u2029\u0085]/g, "\n")
    .replace(/[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, "") // control characters
    .normalize("NFC");
  return unescapeHtml(unescapeHtml(repaired)).replace(/\p{White_Space}+/gu, " ").trim().toLowerCase();
}

// byte_alphabet: the printable character that stands for each byte, and the order in which CLIP numbers the bytes.
function byteAlphabet() {
  const printable = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  const bytes = [...Array(256).keys()];
  const others = bytes.filter((byte) => !printable(byte));
  const letters = bytes.map((byte) => String.fromCodePoint(printable(byte) ? byte : 256 + others.indexOf(byte)));
  return { letters, order: [...bytes.filter(printable), ...others] };
}

class Tokenizer {
  // `merges`: lines of two tokens, in the order learned. `pad`: "eos" or "zero".
  constructor({ merges, contextLength, pad }) {
    const { letters, order } = byteAlphabet();
    this.letters = letters;
    this.contextLength = contextLength;
    this.ranks = new Map(merges.map((merge, rank) => [merge, rank]));
    const inside = order.map((byte) => letters[byte]);
    const tokens = [...inside, ...inside.map((token) => token + END_OF_WORD)];
    tokens.push(...merges.map((merge) => merge.replace(" ", "")), BOS, EOS);
    this.ids = new Map();
    for (const token of tokens) if (!this.ids.has(token)) this.ids.set(token, this.ids.size);
    this.padId = pad === "eos" ? this.ids.get(EOS) : 0;
  }

  // The normalised words of a text: "A  Cat's" -> ["a", "cat", "'s"].
  words(text) {
    return clean(text).match(WORD) ?? [];
  }

  // merge_word: of all learned pairs in the word, the one that was learned first is merged first.
  mergeWord(word) {
    let tokens = Array.from(new TextEncoder().encode(word), (byte) => this.letters[byte]);
    tokens[tokens.length - 1] += END_OF_WORD;
    for (;;) {
      const rank = (i) => this.ranks.get(`${tokens[i]} ${tokens[i + 1]}`) ?? Infinity;
      let first = Infinity;
      for (let i = 0; i + 1 < tokens.length; i++) first = Math.min(first, rank(i));
      if (first === Infinity) return tokens;
      const merged = [];
      for (let i = 0; i < tokens.length; i++) {
        const pair = i + 1 < tokens.length && rank(i) === first;
        merged.push(pair ? tokens[i] + tokens[i + 1] : tokens[i]);
        if (pair) i++;
      }
      tokens = merged;
    }
  }

  encodeWord(word) {
    const tokens = word === BOS || word === EOS ? [word] : this.mergeWord(word);
    return tokens.map((token) => this.ids.get(token));
  }

  // The ids that a text encoder reads: bos, the text's ids, eos, padding; a text that is too long is cut.
  encode(text) {
    const ids = this.words(text).flatMap((word) => this.encodeWord(word));
    const row = [this.ids.get(BOS), ...ids.slice(0, this.contextLength - 2), this.ids.get(EOS)];
    return [...row, ...Array(this.contextLength - row.length).fill(this.padId)];
  }

  // The words with the positions of their tokens in the context, as `prompt_words` of ldm/lab/trace/recorder.py.
  positions(text) {
    const found = [];
    let next = 1;
    for (const word of this.words(text)) {
      const first = next;
      next += this.encodeWord(word).length;
      const end = Math.min(next, this.contextLength - 1);
      if (first < end) found.push({ text: word, first, end });
    }
    return found;
  }
}
