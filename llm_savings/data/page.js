"use strict";
(() => {
  const root = document.documentElement;
  const sentences = JSON.parse(document.getElementById("sentences").textContent);
  const byId = (id) => document.getElementById(id);
  // A browser may refuse to keep anything for a file.
  const kept = (name) => { try { return localStorage.getItem("llm-savings-" + name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem("llm-savings-" + name, value); } catch { /* not kept */ } };

  const say = (key, args) => {
    const texts = args.map((arg) => (typeof arg === "string" ? arg : say(arg[0], arg.slice(1))));
    return sentences[key][root.lang].replace(/\{(\d)(?::([^|}]*)\|([^}]*))?\}/g, (_, n, one, many) =>
      one === undefined ? texts[n] : texts[n] + " " + (texts[n] === "1" ? one : many));
  };
  const speak = (lang) => {
    root.lang = lang;
    for (const element of document.querySelectorAll("[data-t]"))
      element.textContent = say(element.dataset.t, JSON.parse(element.dataset.a || "[]"));
    const button = byId("lang");
    button.lang = lang === "ko" ? "en" : "ko";
    button.textContent = lang === "ko" ? "English" : "한국어";
    byId("theme").textContent = say(isDark() ? "page.light" : "page.dark", []);
  };

  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const shade = (theme) => {
    if (theme) root.dataset.theme = theme;
    byId("theme").textContent = say(isDark() ? "page.light" : "page.dark", []);
  };

  const order = {}; // by table: which column, and which way
  const figure = (cell) => (cell.dataset.v === undefined ? null : Number(cell.dataset.v));
  const compare = (a, b) => {
    if (a.classList.contains("n") || b.classList.contains("n")) {
      const [x, y] = [figure(a), figure(b)];
      return x === null || y === null ? null : x - y;
    }
    return a.textContent.localeCompare(b.textContent, root.lang, { numeric: true });
  };
  const arrange = (table) => {
    const { column, down } = order[table.id];
    [...table.tHead.rows[0].cells].forEach((head, n) =>
      head.setAttribute("aria-sort", n !== column ? "none" : down ? "descending" : "ascending"));
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [a.cells[column], b.cells[column]];
      const found = compare(x, y);
      // What has no figure is last, whichever way the others stand.
      return found === null ? (figure(x) === null) - (figure(y) === null) : down ? -found : found;
    });
    body.append(...rows);
  };
  const equip = () => {
    for (const table of document.querySelectorAll("table.sorts")) {
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        const button = document.createElement("button");
        button.type = "button";
        // The name keeps its language: what stands in the head moves into the button.
        const said = document.createElement("span");
        if (head.dataset.t) {
          said.dataset.t = head.dataset.t;
          delete head.dataset.t;
        }
        said.textContent = head.textContent;
        button.append(said);
        head.replaceChildren(button);
        head.setAttribute("aria-sort", "none");
        button.addEventListener("click", () => {
          const before = order[table.id];
          const down = before && before.column === column ? !before.down : head.classList.contains("n");
          order[table.id] = { column, down };
          arrange(table);
        });
      });
      if (order[table.id]) arrange(table);
    }
  };

  byId("lang").addEventListener("click", () => {
    const lang = root.lang === "ko" ? "en" : "ko";
    keep("lang", lang);
    speak(lang);
  });
  byId("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    keep("theme", theme);
    shade(theme);
  });
  system.addEventListener("change", () => shade());
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  document.querySelector(".switches").hidden = false;
  equip();
  shade(kept("theme"));
  speak(kept("lang") || root.dataset.lang || (navigator.language.startsWith("ko") ? "ko" : "en"));

  const seconds = Number(root.dataset.live);
  if (!seconds) return;
  const refresh = async () => {
    const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.status !== 200 && answer.status !== 503) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      Object.assign(sentences, JSON.parse(fresh.getElementById("sentences").textContent));
      const [held, top] = [document.activeElement, scrollY];
      const table = held && held.closest("table");
      const place = table && held.closest("th") ? held.closest("th").cellIndex : -1;
      const sideways = [...document.querySelectorAll(".scroll")].map((one) => [one.firstChild.id, one.scrollLeft]);
      for (const part of ["main", "footer"])
        document.querySelector(part).replaceChildren(...fresh.querySelector(part).childNodes);
      for (const id of open) if (byId(id)) byId(id).open = true;
      equip();
      speak(root.lang);
      for (const [id, left] of sideways) if (byId(id)) byId(id).parentElement.scrollLeft = left;
      if (place >= 0 && byId(table.id)) byId(table.id).tHead.rows[0].cells[place].firstChild.focus({ preventScroll: true });
      scrollTo({ top, behavior: "instant" });
      byId("status").textContent = "";
    } catch {
      byId("status").textContent = say("page.away", []);
    }
  };
  setInterval(() => { if (!document.hidden) refresh(); }, seconds * 1000);
})();
