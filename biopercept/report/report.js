// The contents of a page: marks the part that is read, and keeps its link in view.
"use strict";
(() => {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const nav = document.querySelector("nav");
  const visible = new Set();
  let current = null;

  function mark() {
    const first = [...links.keys()].find((anchor) => visible.has(anchor));
    if (!first || first === current) return;
    if (current) links.get(current).removeAttribute("aria-current");
    current = first;
    const link = links.get(current);
    link.setAttribute("aria-current", "true");
    const [box, place] = [nav.getBoundingClientRect(), link.getBoundingClientRect()];
    nav.scrollBy(place.left - box.left - (box.width - place.width) / 2, place.top - box.top - (box.height - place.height) / 2);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target.id);
      else visible.delete(entry.target.id);
    }
    mark();
  }, { rootMargin: "-64px 0px -40% 0px" });
  for (const anchor of links.keys()) observer.observe(document.getElementById(anchor));

  // A picture is taken away as it stands in the page.
  for (const link of document.querySelectorAll("a[data-svg]")) {
    link.href = link.closest("figure").querySelector("img").src;
    link.hidden = false;
  }

  // Closed tables are opened before the page is printed, as paper has no click, and closed again.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].filter((one) => one.querySelector("table"));
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));
})();
