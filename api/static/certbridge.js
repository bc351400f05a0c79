// The one script of certbridge. Everything works without it but live pages, keys and drag and drop.
"use strict";

(() => {
  const body = document.body;
  document.documentElement.classList.add("scripts");

  // ── lengths of time that run on ──────────────────────────────────────────────────────────────────────────────────
  const units = body.dataset.units.split("|");
  const sizes = [86400, 3600, 60, 1];

  function lasting(seconds) {
    let left = Math.max(0, Math.round(seconds));
    const parts = [];
    for (let i = 0; i < sizes.length && parts.length < 2; i += 1) {
      const count = Math.floor(left / sizes[i]);
      left %= sizes[i];
      if (count) parts.push(units[i].replace("#", count));
      else if (parts.length) break;
    }
    return parts.join(" ") || units[3].replace("#", "0");
  }

  function tick() {
    for (const each of document.querySelectorAll("time.since, [data-since]")) {
      each.textContent = lasting((Date.now() - Date.parse(each.dateTime || each.dataset.since)) / 1000);
    }
  }

  // Times are told in UTC; the reader's own time stands in the title too.
  function localTimes(root) {
    for (const each of root.querySelectorAll("time[datetime]:not([data-told])")) {
      const at = new Date(each.dateTime);
      each.dataset.told = "yes";
      if (Number.isNaN(at.getTime())) continue;
      each.title += `\n${at.toLocaleString(document.documentElement.lang, { dateStyle: "full", timeStyle: "long" })}`;
    }
  }

  // On a phone a row of a table is a block: each of its cells says what it is.
  function namedCells(root) {
    for (const table of root.querySelectorAll("table.stack")) {
      const names = [...table.querySelectorAll("thead th")].map((each) =>
        each.querySelector(".hidden") ? "" : each.textContent.trim(),
      );
      for (const row of table.querySelectorAll("tbody tr")) {
        [...row.children].forEach((cell, at) => {
          if (cell.tagName === "TD" && cell.textContent.trim() && names[at]) cell.dataset.named = names[at];
        });
      }
    }
  }

  tick();
  localTimes(document);
  namedCells(document);
  window.setInterval(tick, 1000);

  // ── light and dark ───────────────────────────────────────────────────────────────────────────────────────────────
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  for (const each of document.querySelectorAll("[data-theme-switch]")) {
    each.addEventListener("click", (event) => {
      event.preventDefault();
      const root = document.documentElement;
      const now = root.dataset.theme || (dark.matches ? "dark" : "light");
      root.dataset.theme = now === "dark" ? "light" : "dark";
      const secure = window.location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `certbridge_theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    });
  }

  // ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  const keys = document.getElementById("keys");
  let going = false;

  function rows() {
    return [...document.querySelectorAll("a.row, [data-list] a")].filter((each) => each.offsetParent !== null);
  }

  function move(by) {
    const every = rows();
    if (!every.length) return;
    const at = every.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : every.length - 1) : Math.min(every.length - 1, Math.max(0, at + by));
    every[next].focus();
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
    if (going) {
      going = false;
      const link = document.querySelector(`nav.main [data-go="${CSS.escape(event.key)}"]`);
      if (link) link.click();
      return;
    }
    const inList = document.activeElement && document.activeElement.matches("a.row, [data-list] a");
    if (event.key === "j" || (event.key === "ArrowDown" && inList)) move(1);
    else if (event.key === "k" || (event.key === "ArrowUp" && inList)) move(-1);
    else if (event.key === "ArrowRight" && inList) move(1);
    else if (event.key === "ArrowLeft" && inList) move(-1);
    else if (event.key === "g") going = true;
    else if (event.key === "?") keys.showModal();
    else if (event.key === "/") {
      const filter = document.querySelector(".filters input:not([type=hidden]), .filters select");
      if (!filter) return;
      filter.focus();
    } else return;
    event.preventDefault();
  });

  // ── live parts: what the reader has opened, and where the focus is, stays so ──────────────────────────────────────
  let opened = new Set();
  document.addEventListener("htmx:beforeSwap", (event) => {
    opened = new Set([...event.detail.target.querySelectorAll("details[open][id]")].map((each) => each.id));
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    for (const id of opened) {
      const each = document.getElementById(id);
      if (each) each.open = true;
    }
    localTimes(event.detail.target);
    namedCells(event.detail.target);
    tick();
  });
  function live(on) {
    for (const each of document.querySelectorAll(".live-dot")) {
      each.classList.toggle("on", on);
      each.textContent = on ? each.dataset.on : each.dataset.off;
    }
  }
  document.addEventListener("htmx:sseOpen", () => live(true));
  document.addEventListener("htmx:sseError", () => live(false));
  document.addEventListener("htmx:sseClose", (event) => {
    live(false);
    if (event.detail.type !== "message") return; // the stream itself has said that nothing more comes
    for (const each of document.querySelectorAll(".live-dot")) each.textContent = each.dataset.over;
  });

  // ── the number of the inbox, on pages that are open for long and hear of nothing else ─────────────────────────────
  async function countInbox() {
    const count = document.getElementById("inbox-count");
    if (!count || document.hidden) return;
    try {
      const answer = await fetch("/gates/count", { redirect: "manual" });
      if (!answer.ok) return; // signed out meanwhile: the page stays as it is
      const told = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("inbox-count");
      if (told) count.replaceWith(document.adoptNode(told));
    } catch {
      // The server is away; the next time will do.
    }
  }
  window.setInterval(countInbox, 30000);

  // ── files dropped in ─────────────────────────────────────────────────────────────────────────────────────────────
  for (const zone of document.querySelectorAll(".drop")) {
    const input = zone.querySelector("input[type=file]");
    const form = zone.closest("form");
    const said = document.getElementById("sending");
    const send = () => {
      const size = [...input.files].reduce((sum, each) => sum + each.size, 0);
      const tooMuch = size > Number(zone.dataset.most);
      said.textContent = tooMuch ? zone.dataset.tooMuch : zone.dataset.sending;
      said.className = tooMuch ? "alert bad" : "soft";
      if (tooMuch) input.value = "";
      else form.requestSubmit();
    };
    const over = (on) => (event) => {
      event.preventDefault();
      zone.classList.toggle("over", on);
    };
    zone.addEventListener("dragenter", over(true));
    zone.addEventListener("dragover", over(true));
    zone.addEventListener("dragleave", over(false));
    zone.addEventListener("drop", (event) => {
      over(false)(event);
      if (!event.dataTransfer || !event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      send();
    });
    input.addEventListener("change", () => {
      if (input.files.length) send();
    });
  }
  const delivery = document.getElementById("delivery");
  if (delivery) delivery.focus(); // what came of it is seen, and read out

  // ── a form that starts something is sent once ────────────────────────────────────────────────────────────────────
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-once]")) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    window.setTimeout(() => delete form.dataset.sent, 5000);
  });
  for (const each of document.querySelectorAll("[data-print]")) {
    each.addEventListener("click", () => window.print());
  }
})();
