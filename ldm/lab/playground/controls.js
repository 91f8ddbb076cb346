"use strict";
// What a playground consists of: its controls, in the order in which one tabs through them. They do nothing yet.

const STRIP = 10; // small pictures below the image, from noise to image

function build(root, settings, prompt) {
  const ui = {};
  const id = `playground-${document.querySelectorAll(".playground[data-phase]").length}`;
  const slider = (name, min, max, step, value) => {
    ui[name] = element("input", { type: "range", id: `${id}-${name}`, min, max, step, value });
    ui[`${name}Value`] = element("output", { for: `${id}-${name}` });
    const label = element("label", { for: `${id}-${name}` }, SAY[name]);
    return element("div", { class: "control" }, label, ui[`${name}Value`], ui[name]);
  };
  const labelled = (name, control) =>
    element("div", { class: "control" }, element("label", { for: `${id}-${name}` }, SAY[name]), control);
  ui.prompt = element("input", {
    type: "text", id: `${id}-prompt`, value: prompt, readonly: !settings,
    maxlength: 300, autocomplete: "off", spellcheck: "false", enterkeyhint: "go",
  });
  ui.go = element("button", { type: "submit", class: "go" });
  ui.examples = SAY.examples.map((text) => element("button", { type: "button" }, text));
  ui.form = element("form", {},
    element("label", { for: `${id}-prompt`, class: "hidden-label" }, SAY.prompt),
    element("div", { class: "ask" }, ui.prompt, ui.go),
    element("div", { class: "examples" }, ...ui.examples));
  ui.image = element("canvas", { width: 1, height: 1, role: "img", "aria-label": SAY.views.x0 });
  ui.heat = element("canvas", { class: "heat", "aria-hidden": "true" });
  ui.picture = element("div", { class: "picture" }, ui.image, ui.heat);
  ui.strip = Array.from({ length: STRIP }, () => element("canvas", { width: 1, height: 1 }));
  ui.slider = element("input", { type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": SAY.step });
  ui.play = element("button", { type: "button", class: "play", "aria-label": SAY.play, title: SAY.play }, "▶");
  ui.where = element("output", {});
  ui.words = element("div", { class: "words", role: "group", "aria-label": SAY.words });
  ui.caption = element("p", { class: "caption" }, SAY.words);
  ui.views = ["x0", "x"].map((view) =>
    element("input", { type: "radio", name: `${id}-view`, value: view, checked: view === "x0" }));
  const views = element("fieldset", { class: "views" }, element("legend", { class: "hidden-label" }, SAY.view),
    ...ui.views.map((radio) => element("label", {}, radio, element("span", {}, SAY.views[radio.value]))));
  ui.seed = element("input", {
    type: "number", id: `${id}-seed`, min: 0, max: 2 ** 32 - 1, step: 1, value: 42, inputmode: "numeric",
  });
  ui.dice = element("button", { type: "button", class: "dice", "aria-label": SAY.dice, title: SAY.dice }, "⚄");
  ui.sampler = element("select", { id: `${id}-sampler` }, ...Object.entries(settings?.samplers ?? {}).map(([name, label]) =>
    element("option", { value: name, selected: name === settings?.sampler }, label)));
  ui.status = element("p", { class: "status", role: "status" });
  ui.progress = element("progress", { max: 1, value: 0, hidden: true });
  ui.command = element("code", {});
  root.replaceChildren(
    ui.form,
    element("div", { class: "stage" },
      element("div", { class: "left" }, ui.picture,
        element("div", { class: "strip", "aria-hidden": "true" }, ...ui.strip),
        element("div", { class: "time" }, ui.play, ui.slider), element("div", { class: "under" }, ui.where, views)),
      element("div", { class: "right" }, ui.words, ui.caption,
        slider("guidance", 0, 12, 0.5, settings?.guidance ?? 4),
        slider("steps", 1, Math.max(40, settings?.steps ?? 0), 1, settings?.steps ?? 20),
        element("div", { class: "pair" },
          labelled("seed", element("span", { class: "seed" }, ui.seed, ui.dice)),
          labelled("sampler", ui.sampler)),
        ui.status, ui.progress,
        element("p", { class: "again" }, `${SAY.again} `, ui.command))));
  return ui;
}

