"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const list = document.getElementById("tests");
  const pages = all("section.test");
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const shown = document.getElementById("shown");
  const body = list.querySelector("tbody");
  const rows = all("tr", body);
  const chips = all(".chips button");
  const heads = all("th[data-sort]");
  const title = document.title;
  let up = true;

  // One test at a time, named by the address: the browser's own back and forward work.
  function route(event) {
    const page = pages.find((each) => each.id === location.hash.slice(1));
    pages.forEach((each) => { each.hidden = each !== page; });
    list.hidden = Boolean(page);
    const heading = (page || list).querySelector("h2");
    document.title = page ? `${heading.textContent} · flopguard` : title;
    if (event) {
      heading.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = chips.filter((each) => each.getAttribute("aria-pressed") === "true").map((each) => each.dataset.outcome);
    let count = 0;
    for (const row of rows) {
      const text = row.dataset.text.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!wanted.length || wanted.includes(row.dataset.outcome));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  }

  function order() {
    const key = sort.value;
    const text = key === "name";
    const sorted = [...rows].sort((a, b) =>
      text ? a.dataset.name.localeCompare(b.dataset.name) : Number(a.dataset[key]) - Number(b.dataset[key]));
    body.append(...(up ? sorted : sorted.reverse()));
    for (const head of heads) {
      if (head.dataset.sort === key) head.setAttribute("aria-sort", up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  }

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // The dearest first at first, names from a to z.
      up = sort.value === head.dataset.sort ? !up : head.dataset.sort === "name";
      sort.value = head.dataset.sort;
      order();
    });
  }
  sort.addEventListener("change", () => {
    up = sort.value === "order" || sort.value === "name";
    order();
  });
  search.addEventListener("input", filter);
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !list.hidden) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && document.activeElement === search) {
      search.value = "";
      filter();
    }
  });
  for (const button of all(".folds button")) {
    button.addEventListener("click", () => {
      all("details", button.closest("section")).forEach((each) => { each.open = Boolean(button.dataset.open); });
    });
  }
  for (const chart of all(".chart")) {
    const told = chart.nextElementSibling;
    chart.addEventListener("pointerover", (event) => {
      const label = event.target.getAttribute("aria-roledescription") === "rect mark" && event.target.getAttribute("aria-label");
      told.hidden = !label;
      told.textContent = label || "";
    });
  }
  document.documentElement.classList.add("js");
  all(".tools, .folds").forEach((each) => { each.hidden = false; });
  addEventListener("hashchange", route);
  route();
  filter();
})();
