"use strict";
// Everything of others' is shown by textContent or as an attribute, never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => { const it = byId(id); return it ? JSON.parse(it.textContent) : null; };
  const data = read("data");
  const jobs = data.cards;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  /** Make an element; properties in `more` are set, not parsed. */
  const make = (tag, more = {}, ...inside) => {
    const it = document.createElement(tag);
    for (const [name, value] of Object.entries(more)) {
      if (value === undefined || value === null || value === false) continue;
      if (name in it && name !== "role" && !name.includes("-")) it[name] = value;
      else it.setAttribute(name, value);
    }
    it.append(...inside.filter((one) => one !== null && one !== undefined));
    return it;
  };
  const say = (text) => { const it = byId("said"); it.textContent = ""; requestAnimationFrame(() => { it.textContent = text; }); };
  const number = new Intl.NumberFormat("en");
  const words = (state) => state.replaceAll("_", " ");
  const span = (s) => {
    if (s < 10) return `${s.toFixed(1)} s`;
    const all = Math.round(s);
    if (all < 60) return `${all} s`;
    if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
    return `${Math.floor(all / 3600)} h ${Math.floor(all % 3600 / 60)} min`;
  };

  // -- times: the reader's own --------------------------------------------------------------

  const full = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit"});
  const clock = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit"});
  const seconds = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});
  const day = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short"});
  for (const it of document.querySelectorAll("time[data-ms]")) {
    it.title = it.textContent;
    it.textContent = full.format(Number(it.dataset.ms));
  }
  const plot = byId("plot");
  if (plot) {
    const form = {second: seconds, minute: clock, day}[plot.dataset.kind];
    for (const it of plot.querySelectorAll("[data-tick]")) it.textContent = form.format(Number(it.dataset.tick));
    const offset = -new Date().getTimezoneOffset();
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local";
    const hours = `${Math.floor(Math.abs(offset) / 60)}${offset % 60 ? ":" + String(Math.abs(offset) % 60).padStart(2, "0") : ""}`;
    byId("zone").textContent = offset ? `yours: ${zone}, UTC${offset < 0 ? "−" : "+"}${hours}` : "UTC, as yours are";
    const stretches = read("points");
    const cursor = make("div", {className: "cursor", hidden: true});
    plot.append(cursor);
    const point = (event) => {
      const box = plot.getBoundingClientRect();
      const x = 100 * (event.clientX - box.left) / box.width;
      const one = stretches.find((it) => x >= it.x && x <= it.x + it.width);
      cursor.hidden = !one;
      if (!one) { byId("readout").textContent = ""; return; }
      const slot = Math.min(one.points.length - 1, Math.max(0, Math.floor((x - one.x) / one.width * one.points.length)));
      const [at, flying, good, lost, spent] = one.points[slot];
      cursor.style.left = `${one.x + one.width * (slot + 0.5) / one.points.length}%`;
      byId("readout").textContent = `${plot.dataset.kind === "second" ? seconds.format(at) : full.format(at)}: ${number.format(flying)} in flight, ${number.format(good)} finished${lost ? `, ${number.format(lost)} without a clip` : ""}, ${spent} spent`;
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerleave", () => { cursor.hidden = true; byId("readout").textContent = ""; });
  }

  // -- light and dark -----------------------------------------------------------------------

  const theme = byId("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => root.classList.contains("dark") || (!root.classList.contains("light") && prefersDark.matches);
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours"); };
  const kept = { // a file may have no storage
    get: () => { try { return localStorage.getItem("batchgen-theme"); } catch { return null; } },
    set: (name) => { try { localStorage.setItem("batchgen-theme", name); } catch { /* for this visit then */ } },
  };
  if (["light", "dark"].includes(kept.get())) root.classList.add(kept.get());
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const wanted = isDark() ? "light" : "dark";
    root.classList.remove("light", "dark");
    root.classList.add(wanted);
    kept.set(wanted);
    label();
  });
  prefersDark.addEventListener("change", label);
  label();

  // -- commands to copy ---------------------------------------------------------------------

  const copied = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way */ }
    const area = make("textarea", {value: text, className: "sr", readOnly: true});
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const done = await copied(button.dataset.copy);
    button.focus();
    const text = button.firstChild;
    const before = button.dataset.label || (button.dataset.label = text.textContent);
    text.textContent = done ? "Copied" : "Select it";
    say(done ? "Copied" : "It could not be copied: select the line");
    setTimeout(() => { text.textContent = before; }, 1600);
  });

  // -- pictures: opened when they are looked at -----------------------------------------------

  const blocks = new Map();
  const waiting = [];
  const picture = (at) => {
    const number_ = Math.floor(at / data.postersABlock);
    if (!blocks.has(number_)) {
      const it = document.getElementsByClassName("posters")[number_];
      // While the page is still read, a block may be there in part.
      if (!it || (document.readyState === "loading" && !it.nextElementSibling)) return null;
      blocks.set(number_, JSON.parse(it.textContent));
    }
    return `data:image/webp;base64,${blocks.get(number_)[at % data.postersABlock]}`;
  };
  const show = (image, at) => {
    const url = picture(at);
    if (url) image.src = url; else waiting.push([image, at]);
  };
  document.addEventListener("DOMContentLoaded", () => {
    for (const [image, at] of waiting.splice(0)) show(image, at);
  });

  // A clip without a picture shows its own first frame, as long as its card is on the screen.
  const frames = new IntersectionObserver((seen) => {
    for (const {target, isIntersecting} of seen) {
      if (isIntersecting && !target.querySelector("video")) {
        target.append(make("video", {muted: true, preload: "metadata", playsInline: true, tabIndex: -1, src: `${target.dataset.src}#t=0.1`, "aria-hidden": "true"}));
      } else if (!isIntersecting) drop(target);
    }
  }, {rootMargin: "120px"});
  const drop = (frame) => {
    for (const video of frame.querySelectorAll("video")) {
      video.removeAttribute("src");
      video.load();
      video.remove();
    }
  };

  // -- cards ------------------------------------------------------------------------------------

  const cards = byId("cards");
  const elements = new Map();
  const first = (job) => (job.files || [])[0];
  const isPlayable = (job) => { const file = first(job); return Boolean(file && file[4] && file[2] === "video"); };
  const reason = (job) => job.error || (first(job) && !first(job)[4] ? "Not where it was put on this disk" : first(job) && first(job)[2] === "far" ? "In a bucket: written with --sign, a report plays it" : words(job.state));

  const frameOf = (job) => {
    const frame = make("span", {className: "frame"});
    if (job.size) frame.classList.toggle("tall", job.size[1] > job.size[0]);
    const file = first(job);
    if (job.poster !== undefined) {
      const image = make("img", {alt: "", decoding: "async", width: 320, height: 180});
      show(image, job.poster);
      frame.append(image);
    } else if (file && file[4] && file[2] === "image") {
      frame.append(make("img", {alt: "", loading: "lazy", decoding: "async", src: file[0]}));
    } else if (isPlayable(job)) {
      frame.dataset.src = file[0];
      frames.observe(frame);
    } else {
      frame.append(make("span", {className: "why"}, reason(job)));
    }
    if (job.clip) frame.append(make("span", {className: "chip"}, span(job.clip)));
    else if (job.state !== "succeeded") frame.append(make("span", {className: "chip"}, words(job.state)));
    return frame;
  };
  const cardOf = (at) => {
    if (elements.has(at)) return elements.get(at);
    const job = jobs[at];
    const button = make("button", {type: "button", className: `card ${job.state}`, tabIndex: -1},
      frameOf(job),
      make("span", {className: "meta"},
        make("span", {className: "name"}, make("b", {dir: "auto"}, job.label), make("span", {}, job.cost || "")),
        make("span", {className: "words", dir: "auto"}, job.prompt || job.error || "")));
    button.dataset.at = at;
    const item = make("li", {}, button);
    elements.set(at, item);
    return item;
  };

  // Under the mouse a clip plays, without a sound.
  let hovered = null;
  const leave = () => {
    if (!hovered) return;
    clearTimeout(hovered.timer);
    if (hovered.video) { drop(hovered.frame); }
    hovered = null;
  };
  cards.addEventListener("pointerover", (event) => {
    const button = event.target.closest(".card");
    if (!button || event.pointerType !== "mouse" || calm.matches) return;
    const frame = button.querySelector(".frame");
    if (hovered && hovered.frame === frame) return;
    leave();
    const job = jobs[button.dataset.at];
    if (!isPlayable(job) || job.poster === undefined) return;
    hovered = {frame, timer: setTimeout(() => {
      const video = make("video", {muted: true, loop: true, autoplay: true, playsInline: true, tabIndex: -1, src: first(job)[0], "aria-hidden": "true"});
      hovered.video = video;
      video.addEventListener("error", () => video.remove());
      frame.append(video);
    }, 180)};
  });
  cards.addEventListener("pointerleave", leave);

  // -- which cards, in which order --------------------------------------------------------------

  const text = jobs.map((job) => [job.label, job.key, data.batches[job.batch], data.models[job.model], words(job.state), job.why, job.prompt, job.error, job.seed, ...(job.cells || []), ...(job.files || []).map((file) => file[1])].filter(Boolean).join("\n").toLowerCase());
  const facets = [
    {name: "State", of: (job) => job.state, shown: words},
    {name: "Batch", of: (job) => data.batches[job.batch]},
    {name: "Model", of: (job) => data.models[job.model]},
    {name: "Reason", of: (job) => job.why || null, shown: words},
    ...data.facets.map((at) => ({name: data.columns[at], of: (job) => (job.cells || [])[at] ?? null})),
  ];
  for (const facet of facets) {
    facet.shown = facet.shown || ((value) => value);
    facet.values = jobs.map(facet.of);
    facet.chosen = new Set();
    const counted = new Map();
    for (const value of facet.values) if (value !== null) counted.set(value, (counted.get(value) || 0) + 1);
    facet.choices = [...counted].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0]), "en", {numeric: true})).map(([value]) => value);
  }
  const shownFacets = facets.filter((facet, at) => facet.choices.length > 1 || (at === 3 && facet.choices.length));
  byId("filters").hidden = !shownFacets.length;
  for (const facet of shownFacets) {
    facet.boxes = new Map();
    const set = make("fieldset", {}, make("legend", {dir: "auto"}, facet.name));
    for (const value of facet.choices) {
      const box = make("input", {type: "checkbox"});
      const count = make("span", {className: "n"});
      box.addEventListener("change", () => { facet.chosen[box.checked ? "add" : "delete"](value); update(); });
      facet.boxes.set(value, {box, count, row: set.appendChild(make("label", {}, box, make("span", {dir: "auto"}, facet.shown(value)), count))});
    }
    byId("facets").append(set);
  }

  const compare = new Intl.Collator("en", {numeric: true}).compare;
  const orders = [
    ["As in the manifest", () => 0],
    ["Newest first", (a, b) => b.at - a.at],
    ["Dearest first", (a, b) => b.micros - a.micros],
    ["Slowest first", (a, b) => ((b.queued || 0) + (b.run || 0)) - ((a.queued || 0) + (a.run || 0))],
    ["By name", (a, b) => compare(a.label, b.label)],
    ["Without a clip first", (a, b) => (a.state === "succeeded") - (b.state === "succeeded")],
  ];
  const sort = byId("sort");
  sort.append(...orders.map(([name], at) => make("option", {value: at}, name)));
  const search = byId("search");
  const more = byId("more");
  const AT_ONCE = 60;
  let chosen = [];
  let drawn = 0;

  const update = () => {
    const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = text.map((one) => asked.every((word) => one.includes(word)));
    const passes = shownFacets.map((facet) => facet.values.map((value) => !facet.chosen.size || facet.chosen.has(value)));
    const failing = jobs.map((_, at) => passes.reduce((sum, pass) => sum + !pass[at], 0));
    shownFacets.forEach((facet, number_) => {
      // How many there would be if it were chosen: all others decide.
      const counted = new Map();
      facet.values.forEach((value, at) => {
        if (value !== null && found[at] && failing[at] - !passes[number_][at] === 0) counted.set(value, (counted.get(value) || 0) + 1);
      });
      for (const [value, {box, count, row}] of facet.boxes) {
        count.textContent = number.format(counted.get(value) || 0);
        row.classList.toggle("none", !counted.get(value));
        box.checked = facet.chosen.has(value);
      }
    });
    chosen = jobs.map((_, at) => at).filter((at) => found[at] && !failing[at]);
    const order = orders[sort.value][1];
    chosen.sort((a, b) => order(jobs[a], jobs[b]) || a - b);
    leave();
    cards.replaceChildren();
    drawn = 0;
    draw();
    const filters = shownFacets.reduce((sum, facet) => sum + facet.chosen.size, 0);
    byId("active").textContent = filters ? `(${filters})` : "";
    byId("clear").hidden = !filters && !search.value;
    byId("none").hidden = chosen.length > 0;
    byId("result").textContent = chosen.length === jobs.length ? `${number.format(jobs.length)} jobs` : `${number.format(chosen.length)} of ${number.format(jobs.length)} jobs`;
  };
  const draw = (until = drawn + AT_ONCE) => {
    const next = chosen.slice(drawn, until);
    drawn += next.length;
    cards.append(...next.map(cardOf));
    const current = cards.querySelector('.card[tabindex="0"]');
    if (!current && cards.firstChild) turnTo(cards.firstChild.firstChild);
  };
  new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting) && drawn < chosen.length) {
      draw();
      // It may still be on the screen, and then nobody would say so again.
      requestAnimationFrame(() => { if (more.getBoundingClientRect().top < innerHeight + 800 && drawn < chosen.length) draw(); });
    }
  }, {rootMargin: "800px"}).observe(more);
  addEventListener("beforeprint", () => draw(600));

  const clear = () => {
    for (const facet of facets) facet.chosen.clear();
    search.value = "";
    update();
    search.focus();
  };
  byId("clear").addEventListener("click", clear);
  byId("clear-too").addEventListener("click", clear);
  let pause;
  search.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(update, 90); });
  sort.addEventListener("change", update);
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => {
      cards.classList.toggle("list", button.dataset.view === "list");
      for (const other of document.querySelectorAll("[data-view]")) other.setAttribute("aria-pressed", String(other === button));
    });
  }
  for (const button of document.querySelectorAll("[data-state]")) {
    button.addEventListener("click", () => {
      for (const facet of facets) facet.chosen.clear();
      search.value = "";
      facets[0].chosen.add(button.dataset.state);
      update();
      byId("clips").scrollIntoView();
      byId("clips").focus({preventScroll: true});
    });
  }

  // -- from card to card with the keyboard ------------------------------------------------------

  const turnTo = (button) => {
    for (const other of cards.querySelectorAll('.card[tabindex="0"]')) other.tabIndex = -1;
    button.tabIndex = 0;
  };
  const go = (place) => {
    const at = Math.max(0, Math.min(chosen.length - 1, place));
    if (at >= drawn) draw(at + AT_ONCE);
    const button = cards.children[at]?.firstChild;
    if (!button) return;
    turnTo(button);
    button.focus();
    button.scrollIntoView({block: "nearest"});
  };
  cards.addEventListener("focusin", (event) => { const button = event.target.closest(".card"); if (button) turnTo(button); });
  cards.addEventListener("keydown", (event) => {
    const button = event.target.closest(".card");
    if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = [...cards.children].indexOf(button.parentNode);
    const across = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across, Home: 0, End: chosen.length - 1, PageDown: at + 4 * across, PageUp: at - 4 * across}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !viewer.open) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape" && event.target === search && search.value) {
      event.preventDefault();
      search.value = "";
      update();
    } else if ((event.key === "Enter" || event.key === "ArrowDown") && event.target === search && chosen.length) {
      event.preventDefault();
      clearTimeout(pause);
      update();
      if (chosen.length) go(0);
    }
  });

  // -- one job ----------------------------------------------------------------------------------

  const viewer = byId("viewer");
  let opened = -1; // the place in `chosen`, -1 if it is not there
  const fact = (name, value) => value === undefined || value === null || value === "" ? [] : [make("dt", {dir: "auto"}, name), make("dd", {dir: "auto"}, String(value))];
  const stageOf = (job) => {
    const stage = make("div", {className: "stage"});
    const file = first(job);
    if (isPlayable(job)) {
      const video = make("video", {controls: true, loop: true, playsInline: true, autoplay: !calm.matches, muted: !calm.matches, preload: "auto", "aria-label": `Clip ${job.label}`});
      if (job.poster !== undefined && picture(job.poster)) video.poster = picture(job.poster);
      video.addEventListener("error", () => stage.replaceChildren(make("p", {className: "why"}, `The clip cannot be played from here. It lies in ${file[1]}; ${file[0].includes("://") ? "the link may have run out." : "this page must be where it was written, or be moved together with the clips."}`)));
      video.src = file[0];
      stage.append(video);
    } else if (file && file[4] && file[2] === "image") {
      stage.append(make("img", {src: file[0], alt: job.prompt || job.label}));
    } else if (job.poster !== undefined) {
      stage.append(make("img", {src: picture(job.poster), alt: ""}));
    } else stage.append(make("p", {className: "why"}, job.error ? words(job.state) : reason(job)));
    return stage;
  };
  const button = (name, title, act, off = false) => { const it = make("button", {type: "button", className: "quiet", disabled: off, "aria-label": title, title}, name); it.addEventListener("click", act); return it; };
  const fill = (at) => {
    const job = jobs[at];
    opened = chosen.indexOf(at);
    const line = `batchgen show ${job.key}${data.database}`;
    const files = (job.files || []).flatMap((file, place) => fact(place ? "" : (job.files.length > 1 ? "Files" : "File"), `${file[1]} (${file[3]}${file[4] ? "" : ", not on this disk"})`));
    viewer.replaceChildren(make("div", {className: "view"}, stageOf(job), make("div", {className: "side"},
      make("div", {className: "head"}, make("h2", {id: "viewer-title", dir: "auto"}, job.label),
        button("←", "The one before", () => step(-1), opened < 1),
        button("→", "The next one", () => step(1), opened < 0 || opened === chosen.length - 1),
        button("Close", "Close", () => viewer.close())),
      job.prompt ? make("p", {className: "prompt", dir: "auto"}, job.prompt) : null,
      job.error ? make("p", {className: "error", dir: "auto"}, job.why ? `${words(job.why)}: ${job.error}` : job.error) : null,
      make("dl", {className: "facts"},
        ...fact("State", words(job.state)),
        ...fact("Cost", job.cost), ...fact("Seed", job.seed),
        ...fact("Clip", [job.clip ? span(job.clip) : "", job.size ? job.size.join(" × ") : ""].filter(Boolean).join(", ")),
        ...fact("Generated in", job.run === undefined ? "" : span(job.run)),
        ...fact("In the queue", job.queued === undefined ? "" : span(job.queued)),
        ...fact("At", full.format(job.at))),
      make("dl", {className: "facts"},
        ...data.columns.flatMap((name, place) => { const cell = (job.cells || [])[place]; return cell === job.prompt ? [] : fact(name, cell); })),
      make("dl", {className: "facts"},
        ...fact("Batch", data.batches[job.batch]), ...fact("Model", data.models[job.model]), ...fact("Key", job.key),
        ...files),
      make("div", {className: "line"}, make("code", {tabIndex: 0}, line), make("button", {type: "button", className: "copy", "data-copy": line}, "Copy")))));
  };
  const open = (at) => { fill(at); viewer.showModal(); viewer.querySelector('[aria-label="Close"]').focus(); viewer.scrollTop = 0; };
  const step = (by) => {
    const to = opened + by;
    if (opened < 0 || to < 0 || to >= chosen.length) return;
    const focused = document.activeElement?.getAttribute("aria-label");
    fill(chosen[to]);
    (viewer.querySelector(`[aria-label="${focused}"]:not(:disabled)`) || viewer.querySelector('[aria-label="Close"]')).focus();
    say(`${jobs[chosen[to]].label}, ${to + 1} of ${chosen.length}`);
  };
  viewer.addEventListener("close", () => {
    viewer.replaceChildren(); // its clip stops
    if (opened >= 0 && lastCard) go(opened);
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.target.matches("video, code") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
  });
  let lastCard = false; // whether it was opened from a card, to which the focus goes back
  cards.addEventListener("click", (event) => {
    const it = event.target.closest(".card");
    if (it) { leave(); lastCard = true; open(Number(it.dataset.at)); }
  });
  const byKey = new Map(jobs.map((job, at) => [job.key, at]));
  for (const it of document.querySelectorAll("[data-job]")) {
    const at = byKey.get(it.dataset.job);
    if (at === undefined) it.disabled = true;
    else it.addEventListener("click", () => { lastCard = false; open(at); });
  }

  // -- a few of them, at the top ------------------------------------------------------------------

  const strip = byId("strip");
  const pictured = jobs.map((job, at) => at).filter((at) => jobs[at].poster !== undefined && jobs[at].state === "succeeded");
  const FEW = 6;
  if (pictured.length >= 3) {
    const few = pictured.length < FEW ? pictured : Array.from({length: FEW}, (_, place) => pictured[Math.floor((place + 0.5) * pictured.length / FEW)]);
    strip.append(...few.map((at) => {
      const image = make("img", {alt: "", decoding: "async", width: 320, height: 180});
      show(image, jobs[at].poster);
      const it = make("button", {type: "button", "aria-label": `Clip ${jobs[at].label}`, title: jobs[at].label}, image);
      it.addEventListener("click", () => { lastCard = false; open(at); });
      return make("li", {}, it);
    }));
    strip.hidden = false;
  }

  byId("scriptless").hidden = true;
  byId("gallery").hidden = !jobs.length;
  if (!jobs.length) byId("result").textContent = "no jobs";
  if (innerWidth < 1080) byId("filters").open = false;
  update();
})();
