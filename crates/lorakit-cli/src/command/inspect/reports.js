  const STEPS = 9;
  const CELL = 19;

  /** What a module is measured by, in the figures. */
  const effective = (m) => m.spectrum?.effective_rank ?? null;
  const share = (m) => (m.spectrum?.values.length ? m.spectrum.effective_rank / m.spectrum.values.length : null);

  const tally = (counts) =>
    counts.map((c) => (counts.length === 1 ? number(c.value) : `${number(c.value)} (${plural(c.modules, "module")})`)).join(", ");
  const dtypes = (r) => r.dtypes.map((d) => (r.dtypes.length === 1 ? d.dtype : `${d.dtype} (${d.tensors})`)).join(", ");

  const summary = (r) => {
    const size = `${count(r.parameters)} in ${plural(r.tensors, "tensor")}, ${bytes(r.bytes)}`;
    if (r.kind === "model") {
      const dimensions = Object.entries(r.dimensions).map(([name, n]) => `${name} ${n}`).join(", ");
      return facts([
        ["name", r.name], ["format", r.format], ["architecture", r.architecture], ["dimensions", dimensions],
        ["parameters", size], ["dtype", dtypes(r)], ["quantised", r.quantization],
      ]);
    }
    const methods = Object.entries(r.methods).map(([name, n]) => `${name}, ${plural(n, "module")}`).join("; ");
    const runtime = r.for && `${r.for.runtime} ${r.for.accepted ? "takes it" : "does not take it"}`;
    return facts([
      ["method", methods || "no low-rank modules"], ["rank", tally(r.ranks)], ["alpha", tally(r.alphas)],
      ["scale", tally(r.scales)], ["parameters", size], ["dtype", dtypes(r)], ["format", r.format],
      ["base model", r.base_model ?? "not named"], ["PEFT", r.peft_version],
      ["made by", r.lorakit && `lorakit ${r.lorakit.version} (${r.lorakit.command})`], ["task", r.task],
      ["saved whole", r.saved.map((s) => s.name).join(", ")],
      ["base", r.fit && (r.fit.fits ? `fits ${r.fit.base}` : r.fit.misfit)], ["runtime", runtime],
    ]);
  };

  const audit = (r) => {
    const verdicts = (r.for?.verdicts ?? []).map((v) => ({ ...v, subject: r.for.runtime, message: [v.reason, v.fix].filter(Boolean).join(": ") }));
    const all = [...r.findings, ...verdicts];
    if (all.length === 0) return html("p", { class: "good" }, "No problems found.");
    const item = (f) => {
      const subject = f.subject ? html("bdi", {}, `${f.subject}: `) : null;
      const text = html("span", { class: "path" }, subject, f.message, html("span", { class: "code" }, ` ${f.code}`));
      return html("li", {}, html("span", { class: `severity ${severity(f)}` }, severity(f)), text);
    };
    return html("ul", { class: "findings" }, ...all.map(item));
  };

  const range = (values) => {
    const [low, high] = values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
    return low < high ? [low, high] : [0, high];
  };
  const step = (value, [low, high]) =>
    high > low ? Math.min(STEPS - 1, Math.floor(((value - low) / (high - low)) * STEPS)) : 0;

  /** The path of a curve in a box, relative to its first value. */
  const line = (values, longest, width, height) => {
    const most = values[0] > 0 ? values[0] : 1;
    const x = (i) => (longest > 1 ? (i / (longest - 1)) * width : 0);
    return values.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${(height * (1 - v / most)).toFixed(1)}`).join("");
  };

  /** Singular values relative to the largest, one curve each, and the median of all. */
  const plot = (curves, label) => {
    const [width, height] = [230, 90];
    const longest = Math.max(...curves.map((c) => c.length));
    const at = (k) => curves.map((c) => (c[0] > 0 ? (c[k] ?? 0) / c[0] : 0)).sort((a, b) => a - b)[curves.length >> 1];
    const median = Array.from({ length: longest }, (_, k) => at(k));
    const faint = curves.length > 1 ? curves.map((c) => svg("path", { class: "curve", d: line(c, longest, width, height) })) : [];
    return svg("svg", { viewBox: `-24 -8 ${width + 34} ${height + 28}`, role: "img", "aria-label": label },
      svg("path", { class: "axis", d: `M0 0V${height}H${width}` }), ...faint,
      svg("path", { class: "median", d: line(median, longest, width, height) }),
      svg("text", { x: -6, y: 8, "text-anchor": "end" }, "1"), svg("text", { x: -6, y: height, "text-anchor": "end" }, "0"),
      svg("text", { x: 0, y: height + 16, "text-anchor": "middle" }, "1"),
      svg("text", { x: width, y: height + 16, "text-anchor": "middle" }, String(longest)));
  };

  const numbers = (m) => [
    ["rank", m.experts ? `${m.experts} x ${m.rank}` : m.rank], ["scale", number(m.scale)], ["norm", number(m.norm)],
    ...(known(m.relative_norm) ? [["of the weight's norm", percent(m.relative_norm)]] : []),
    ...(m.spectrum ? [
      ["effective rank", `${number(effective(m))} (${percent(share(m))})`], ["stable rank", number(m.spectrum.stable_rank)],
      ["rank for 90 %, 99 %", `${m.spectrum.rank_90}, ${m.spectrum.rank_99}`], ["dead directions", m.spectrum.dead],
    ] : []),
  ];

  /** Shows a module's numbers and curve beside a box, within the window. */
  const show = (m, box, others = 0) => {
    card.replaceChildren(html("h3", { class: "path" }, ...broken(m.module)), facts(numbers(m)));
    if (others) card.append(html("p", { class: "soft" }, `the largest of ${others + 1} in this cell`));
    const values = m.spectrum?.values ?? [];
    if (values.length) card.append(html("p", { class: "soft" }, "singular values, relative to the first"), plot([values], `Spectrum of ${m.module}`));
    card.hidden = false;
    beside(box);
  };
  // Moving the focus scrolls too: the card then follows its cell.
  document.addEventListener("scroll", () => {
    const active = document.activeElement;
    if (active?.matches(".cell:focus-visible")) beside(active.getBoundingClientRect());
    else hide();
  }, true);

  /** Content that scrolls sideways where it is wider than its place, and then says so. */
  const scroller = (content, hint) => {
    const note = html("p", { class: "hint", hidden: "" }, hint);
    const place = html("div", { class: "scroll" }, content);
    new ResizeObserver(() => { note.hidden = place.scrollWidth <= place.clientWidth; }).observe(place);
    return [note, place];
  };

  /** One cell for each layer and kind of module; arrow keys move between cells. */
  const heatMap = (r, grid, measure) => {
    const bounds = range(r.modules.map(measure.of).filter(known));
    const [width, height] = [grid.layers * CELL + 8, 22 + grid.rows.length * CELL];
    const figure = svg("svg", { width, height, role: "grid", "aria-label": `${measure.title}, ${grid.stem}: kinds of module by layer` });
    for (let layer = 0; layer < grid.layers; layer += 5) {
      figure.append(svg("text", { x: (layer + 0.5) * CELL, y: 14, "text-anchor": "middle", "aria-hidden": "true" }, String(layer)));
    }
    const cells = [];
    grid.rows.forEach((row, y) => {
      const group = svg("g", { role: "row", "aria-label": row.leaf });
      cells.push(row.cells.map((positions, x) => {
        const members = positions.map((i) => r.modules[i]).sort((a, b) => (measure.of(b) ?? -1) - (measure.of(a) ?? -1));
        const value = members.length ? measure.of(members[0]) : null;
        const place = `${row.leaf}, layer ${x}`;
        const state = members.length === 0 ? "absent" : known(value) ? `q${step(value, bounds)}` : "unknown";
        const label = { absent: `${place}: not adapted`, unknown: `${place}: unknown` }[state] ?? `${place}: ${measure.words(members[0])}`;
        const box = { x: x * CELL + 1, y: 22 + y * CELL + 1, width: CELL - 2, height: CELL - 2 };
        const cell = svg("rect", { ...box, class: `cell ${state}`, role: "gridcell", tabindex: -1, "aria-label": label, "data-x": x, "data-y": y });
        if (members.length) {
          const open = () => show(members[0], cell.getBoundingClientRect(), members.length - 1);
          cell.addEventListener("pointerenter", open);
          cell.addEventListener("focus", open);
          cell.addEventListener("pointerleave", hide);
          cell.addEventListener("blur", hide);
        }
        group.append(cell);
        if (state === "absent") group.append(svg("circle", { class: "dot", cx: box.x + box.width / 2, cy: box.y + box.height / 2, r: 2 }));
        return cell;
      }));
      figure.append(group);
    });
    if (cells[0]?.[0]) cells[0][0].setAttribute("tabindex", 0);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0] };
    figure.addEventListener("keydown", (event) => {
      const move = moves[event.key];
      if (!move || !event.target.dataset.x) return;
      event.preventDefault();
      const clamp = (value, most) => Math.max(0, Math.min(value, most));
      const y = clamp(Number(event.target.dataset.y) + move[1], cells.length - 1);
      const next = cells[y][clamp(Number(event.target.dataset.x) + move[0], cells[y].length - 1)];
      event.target.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    });
    // The names stay in view while the cells scroll.
    const kinds = html("div", { class: "kinds", "aria-hidden": "true" }, ...grid.rows.map((row) => html("div", { title: row.leaf }, row.leaf)));
    const ramp = html("span", { class: "ramp", "aria-hidden": "true" }, ...Array.from({ length: STEPS }, (_, i) => html("span", { class: `q${i}` })));
    const has = (state) => cells.flat().some((cell) => cell.classList.contains(state));
    const legend = html("div", { class: "legend" }, measure.show(bounds[0]), ramp, measure.show(bounds[1]),
      has("absent") ? "   · not adapted" : null, ...(has("unknown") ? [html("span", { class: "swatch unknown" }), "unknown"] : []));
    return html("div", { class: "panel" }, html("h3", {}, measure.title, html("span", { class: "soft" }, ` ${grid.stem}`)),
      ...scroller(html("div", { class: "map" }, kinds, figure), `Scroll sideways to see all ${grid.layers} layers \u2192`), legend);
  };

  const spectra = (r) => {
    const kinds = new Map();
    for (const m of r.modules) {
      if (m.spectrum?.values.length) kinds.set(m.leaf, [...(kinds.get(m.leaf) ?? []), m.spectrum.values]);
    }
    const figure = ([leaf, curves]) => html("div", {}, html("h3", { class: "path" }, leaf),
      plot(curves, `Spectra of ${plural(curves.length, "module")} ${leaf}: singular values relative to the first, and their median`));
    return kinds.size ? html("div", { class: "panel curves" }, ...[...kinds].map(figure)) : null;
  };

  const modules = (r, index) => {
    const any = (of) => r.modules.some((m) => known(of(m)));
    const hundredths = (value) => value.toFixed(2);
    const columns = [
      { name: "module", text: true, of: (m) => m.module }, { name: "layer", of: (m) => m.layer }, { name: "kind", text: true, of: (m) => m.leaf },
      { name: "rank", of: (m) => m.rank }, { name: "scale", of: (m) => m.scale }, { name: "norm", of: (m) => m.norm, show: (v) => v.toPrecision(4) },
      { name: "of ‖W‖", of: (m) => m.relative_norm, show: percent }, { name: "effective rank", of: effective, show: hundredths },
      { name: "stable rank", of: (m) => m.spectrum?.stable_rank, show: hundredths }, { name: "rank for 90\u00a0%", of: (m) => m.spectrum?.rank_90 },
      { name: "rank for 99\u00a0%", of: (m) => m.spectrum?.rank_99 }, { name: "dead", of: (m) => m.spectrum?.dead },
    ].filter((c) => c.text || any(c.of));
    const { table, rows } = sortable("Table of modules", columns, r.modules);
    for (const { item, row } of rows) {
      row.addEventListener("pointermove", (e) => show(item, { left: e.clientX, right: e.clientX, top: e.clientY }));
      row.addEventListener("pointerleave", hide);
    }
    return [filter("Show modules with", `filter-${index}`, rows, (m) => m.module), table];
  };

  const report = (r, index) => {
    if (r.kind === "error") return html("article", {}, html("h1", { class: "error" }, r.error.message), html("p", {}, r.error.hints.join(" ")));
    const article = html("article", {}, html("p", { class: "soft" }, r.kind), html("h1", {}, html("bdi", {}, ...broken(r.path))),
      html("div", { class: "side-by-side overview" },
        section("Summary", html("div", { class: "panel" }, summary(r))), section("Audit", html("div", { class: "panel" }, audit(r)))));
    if (!r.modules?.length) return article;
    const relative = r.modules.some((m) => known(m.relative_norm));
    const norm = relative
      ? { title: "Norm, as a share of the weight's", of: (m) => m.relative_norm, show: percent, words: (m) => `norm ${percent(m.relative_norm)} of the weight's` }
      : { title: "Norm", of: (m) => m.norm, show: number, words: (m) => `norm ${number(m.norm)}` };
    const rank = { title: "Effective rank, as a share of the rank", of: share, show: percent, words: (m) => `effective rank ${number(effective(m))} of ${m.spectrum.values.length}` };
    const maps = [norm, rank].filter((measure) => r.modules.some((m) => known(measure.of(m)))).flatMap((measure) => r.grids.map((grid) => heatMap(r, grid, measure)));
    // Side by side only if none has to scroll for it: the cells, the names and the frame.
    const least = Math.max(0, ...r.grids.map((grid) => grid.layers)) * CELL + 160;
    if (maps.length) article.append(section("Layers and modules", html("div", { class: "side-by-side", style: `--least: ${least}px` }, ...maps)));
    const curves = spectra(r);
    if (curves) article.append(section("Spectra", html("p", { class: "soft" }, "Singular values relative to the first, a curve for each module; the strong line is their median."), curves));
    article.append(section("Modules", ...modules(r, index)));
    return article;
  };

  const data = JSON.parse(document.getElementById("data").textContent);
  document.getElementById("reports").append(...data.reports.map(report));
