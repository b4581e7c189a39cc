"use strict";
const content = JSON.parse(document.getElementById("content-data").textContent);
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value ?? "";

// Charts. `ast` interprets Vega's expressions: the page's content security policy allows no eval.
const views = {};
for (const place of all("[data-chart]")) {
  const name = place.dataset.chart;
  if (!content.charts[name]) continue;
  const options = { actions: false, renderer: "svg", ast: true, defaultStyle: false, tooltip: { theme: "report" } };
  vegaEmbed(place, content.charts[name], options).then((made) => {
    views[name] = made.view;
    place.dataset.isDrawn = "yes";
    if (name === "groups") made.view.signal("measure", chosen("measure")).runAsync();
  });
}
for (const input of all('input[name="measure"]')) {
  input.addEventListener("change", () => views.groups?.signal("measure", input.value).runAsync());
}

// Confusion matrices: numbers or shares, and a cell in words for pointer and keyboard.
for (const input of all('input[name="cells"]')) {
  input.addEventListener("change", () => {
    for (const cell of all(".matrix tbody td")) cell.textContent = cell.dataset[input.value];
  });
}
for (const matrix of all(".matrix")) {
  const rows = all("tbody tr", matrix).map((row) => all("td", row));
  const readout = matrix.querySelector(".readout");
  const say = (event) => {
    const cell = event.target.closest("td[data-says]");
    if (cell) readout.textContent = cell.dataset.says;
  };
  matrix.addEventListener("pointerover", say);
  matrix.addEventListener("focusin", say);
  rows[0][0].tabIndex = 0;
  matrix.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const row = rows.findIndex((cells) => cells.includes(event.target));
    if (!step || row < 0) return;
    event.preventDefault();
    const next = rows[row + step[0]]?.[rows[row].indexOf(event.target) + step[1]];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

// Gallery: filters and more.
const gallery = document.querySelector(".gallery");
if (gallery) {
  const cards = all("li", gallery);
  const kind = document.getElementById("kind");
  const more = document.getElementById("more");
  const first = Number(gallery.dataset.first);
  let limit = first;
  const filter = () => {
    const head = chosen("head");
    for (const option of all("option[data-head]", kind)) option.hidden = option.disabled = Boolean(head) && option.dataset.head !== head;
    if (kind.selectedOptions[0].disabled) kind.value = "";
    const fitting = cards.filter((card) => (!head || card.dataset.head === head) && (!kind.value || card.dataset.kind === kind.value));
    const shown = new Set(fitting.slice(0, limit));
    for (const card of cards) card.hidden = !shown.has(card);
    more.hidden = shown.size === fitting.length;
    document.getElementById("none").hidden = fitting.length > 0;
    document.getElementById("shown").textContent = content.words.shown.replace("{shown}", shown.size).replace("{total}", fitting.length);
  };
  const restart = () => { limit = first; filter(); };
  for (const input of all('input[name="head"]')) input.addEventListener("change", restart);
  kind.addEventListener("change", restart);
  more.addEventListener("click", () => {
    const next = cards.filter((card) => !card.hidden).length;
    limit = Infinity;
    filter();
    cards.filter((card) => !card.hidden)[next]?.querySelector("button").focus();
  });
  filter();
}

// A person: all photos with what was said about them.
const dialog = document.getElementById("person");
const element = (tag, text = "", name = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-profile]");
  if (!button) return;
  const person = content.people[button.dataset.profile];
  if (!person) return;
  document.getElementById("person-title").textContent = button.dataset.profile;
  document.getElementById("person-about").textContent = person.about;
  document.getElementById("person-photos").replaceChildren(...person.photos.map((photo) => {
    const item = element("li", "", [photo.file, photo.file.replace(/\.[^.]*$/, "")].includes(button.dataset.file) ? "chosen" : "");
    if (photo.image) {
      const image = element("img");
      image.src = photo.image;
      image.alt = photo.file;
      item.append(image);
    } else item.append(element("span", content.words.no_photo, "gone"));
    const said = element("div");
    said.append(element("div", photo.file, "file"));
    for (const answer of photo.answers) {
      const line = element("div", "", answer.isRight ? "said" : "said bad");
      line.append(element("span", answer.isRight ? "✓" : "✗", "sign"), element("span", answer.answer), element("span", answer.confidence, "confidence"));
      if (!answer.isRight) line.append(element("span", `${content.words.truth}: ${answer.truth}`, "truth"));
      line.title = answer.head;
      said.append(line);
    }
    item.append(said);
    return item;
  }));
  dialog.showModal();
});
document.getElementById("person-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

// Print shows everything that is folded on the screen.
addEventListener("beforeprint", () => { for (const details of all("details")) details.open = true; });

// The section in view is marked in the navigation.
const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
for (const section of all("section")) observer.observe(section);
