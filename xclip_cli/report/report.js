"use strict";
// Adds filtering and sorting to the list. The page reads the same without it. Text goes in and out as text only.
(() => {
  const tools = document.querySelector(".tools");
  const list = document.querySelector(".cards");
  if (!tools || !list) return;
  const cards = Array.from(list.children, (card, place) => ({
    card,
    place,
    name: card.querySelector(".path").textContent,
    best: card.querySelector(".best").textContent,
    text: card.textContent.toLowerCase(),
    score: Number(card.dataset.score),
    seconds: Number(card.dataset.seconds),
  }));
  const [search, label, order] = ["search", "label", "order"].map((name) => tools.querySelector(`[name=${name}]`));
  const count = tools.querySelector("output");
  const unfold = tools.querySelector("button");

  for (const best of [...new Set(cards.map((each) => each.best))].sort()) {
    label.append(new Option(best, best));
  }
  const orders = {
    file: (a, b) => a.place - b.place,
    name: (a, b) => a.name.localeCompare(b.name) || a.place - b.place,
    surest: (a, b) => b.score - a.score || a.place - b.place,
    unsure: (a, b) => a.score - b.score || a.place - b.place,
    slowest: (a, b) => b.seconds - a.seconds || a.place - b.place,
  };
  if (!cards.some((each) => each.seconds > 0)) order.querySelector("[value=slowest]").remove();

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const each of cards) {
      const fits = (!label.value || each.best === label.value) && words.every((word) => each.text.includes(word));
      each.card.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown.toLocaleString("en")} of ${cards.length.toLocaleString("en")}`;
  };
  const sort = () => list.append(...[...cards].sort(orders[order.value]).map((each) => each.card));
  const showUnfold = () => {
    unfold.textContent = cards.some((each) => each.card.open) ? "Close all" : "Open all";
  };
  search.addEventListener("input", filter);
  label.addEventListener("change", filter);
  order.addEventListener("change", sort);
  unfold.addEventListener("click", () => {
    const open = !cards.some((each) => each.card.open);
    for (const each of cards) each.card.open = open && !each.card.hidden;
  });
  list.addEventListener("toggle", showUnfold, true);

  for (const cell of document.querySelectorAll("[data-label]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = cell.textContent;
    button.title = "Show these videos";
    button.addEventListener("click", () => {
      label.value = cell.textContent;
      filter();
      tools.scrollIntoView({ block: "start" });
    });
    cell.replaceChildren(button);
  }
  tools.hidden = false;
  filter();
  showUnfold();
})();
