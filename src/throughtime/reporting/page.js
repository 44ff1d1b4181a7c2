"use strict";
// Puts every figure in its place, one that is shown on demand when it is asked for, and gives all the colours that the
// reader's system asks for: a model with two sets of colours carries both in a tag (ink.py).
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  function paint(document_) {
    const set = dark.matches && !printing ? "dark" : "light";
    for (const model of document_.all_models) {
      for (const tag of model.tags) {
        if (typeof tag === "string" && tag.startsWith("{")) model.setv(JSON.parse(tag)[set]);
      }
    }
  }

  function paintAll() {
    for (const document_ of Bokeh.documents) paint(document_);
  }

  function colourForPrint(now) {
    printing = now;
    paintAll();
    for (const view of Bokeh.index) for (const renderer of view.computed_renderer_views ?? []) renderer.set_visuals?.();
  }

  // Changes are drawn with the next frame, which comes after a print.
  function repaintAll() {
    for (const view of Bokeh.index) view.repaint?.();
  }

  async function place(item) {
    const target = document.getElementById(item.target_id);
    if (target.dataset.placed) return;
    target.dataset.placed = "yes";
    await Bokeh.embed.embed_item(item);
    paintAll();
    target.dataset.drawn = "yes";
  }

  for (const item of FIGURES) {
    const demand = document.getElementById(item.target_id).closest("details.more");
    if (demand === null) place(item);
    else demand.addEventListener("toggle", () => { if (demand.open) place(item); });
  }
  dark.addEventListener("change", paintAll);
  for (const [moment, now] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(moment, () => colourForPrint(now));
    addEventListener(moment, repaintAll);  // apart, once what colours set off has run: else legends are bare
  }
})();
