"use strict";
// A prompt, cut into tokens while one types: tokenizer.js at work.

PIECES.tokens = (piece, { tokenizer: settings }) => {
  const tokenizer = new Tokenizer(settings), letters = new Map(tokenizer.letters.map((letter, byte) => [letter, byte]));
  const list = element("ol", { class: "tokens" }), decoder = new TextDecoder();
  piece.images.replaceWith(list);
  const prompt = piece.field("prompt", TELL.prompt, piece.root.dataset.prompt, draw);

  // A token as text: its letters stand for bytes, and its mark for the end of a word is left out.
  const text = (token) => decoder.decode(Uint8Array.from(token.replace(END_OF_WORD, ""), (letter) => letters.get(letter) ?? 63));

  const box = (words, id, kind = "") => element("li", { class: kind }, element("b", {}, words), element("span", {}, String(id)));

  function draw() {
    const ids = tokenizer.encode(prompt.value), end = tokenizer.ids.get(EOS);
    const pieces = tokenizer.words(prompt.value).flatMap((word) => {
      const tokens = tokenizer.mergeWord(word);
      return tokens.map((token, i) => ({ token, kind: tokens.length > 1 ? (i ? "inside" : "first") : "" }));
    });
    const shown = pieces.slice(0, tokenizer.contextLength - 2), rest = tokenizer.contextLength - 1 - shown.length;
    list.replaceChildren(
      box(TELL.begin, ids[0], "mark"),
      ...shown.map(({ token, kind }, i) => box(text(token), ids[i + 1], kind)),
      box(rest > 1 && tokenizer.padId === end ? TELL.padding(rest) : TELL.end, end, "mark"),
    );
    piece.said.textContent = TELL.cut(shown.length, tokenizer.contextLength);
  }

  draw();
  return { live: true };
};
