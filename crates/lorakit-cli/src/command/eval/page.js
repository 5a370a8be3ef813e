  /** Rows that are shown at once. */
  const AT_ONCE = 20;
  const data = JSON.parse(document.getElementById("data").textContent);
  const candidates = data.candidates;
  const baseline = candidates[data.baseline];
  const label = (c) => (c.weight !== null && c.weight !== 1 ? `${c.name} = ${number(c.weight)}` : c.name);
  /** The end of a name that would leave a figure. */
  const tail = (name) => (name.length > 46 ? `…${name.slice(-45)}` : name);
  const fixed = (value) => (known(value) ? value.toFixed(4) : "");
  const signed = (value) => (known(value) ? `${value > 0 ? "+" : ""}${value.toFixed(4)}` : "");
  const ends = (i) => (i && known(i.low) ? `${signed(i.low)} to ${signed(i.high)}` : "");
  const words = (outcome) => outcome.replaceAll("_", " ");
  const tone = (outcome) => ({ improved: "good", regressed: "error" })[outcome] ?? "soft";
  const unit = { nats_per_token: "nats per token", bits_per_byte: "bits per byte" };
  const share = (of) => (value) => `${value}/${of}`;

  const summary = () => {
    const rows = data.data;
    const long = rows.too_long ? `${rows.too_long} longer than ${rows.context} tokens are left out, the first on line ${rows.first_too_long}` : "";
    const text = data.general && `${data.general.file ?? "the text that comes along"}, ${data.general.tokens} tokens; flagged above ${data.general.threshold} nats per token`;
    return facts([
      ["rows", `${rows.files.join(", ")}: ${rows.judged} judged, ${rows.answered} answered, ${rows.tokens} tokens count`],
      ["left out", long], ["general text", text], ["compared with", label(baseline)], ["base is held in", candidates[0].form],
    ]);
  };

  const verdicts = () => {
    const item = (c) => {
      const reasons = [...c.verdict.worse, ...c.verdict.better, ...(c.general?.flagged ? ["it forgets"] : [])].join("; ");
      const name = html("span", { class: "path" }, html("bdi", {}, label(c)), reasons ? `: ${reasons}` : "");
      return html("li", {}, html("span", { class: `severity ${tone(c.verdict.outcome)}` }, words(c.verdict.outcome)), name);
    };
    const judged = candidates.filter((c) => c.verdict);
    const list = html("ul", { class: "findings verdicts" }, ...judged.map(item));
    return html("div", { class: "panel" }, ...(judged.length ? [list] : [html("p", {}, "Nothing is compared with the base.")]), html("p", { class: "soft rule" }, data.rule));
  };

  const figures = () => {
    const most = Math.max(0, ...candidates.map((c) => c.answers?.rows ?? 0));
    const checks = candidates.find((c) => c.answers)?.answers.checks ?? [];
    const columns = [
      { name: "candidate", text: true, of: label }, { name: "verdict", text: true, of: (c) => (c.verdict ? words(c.verdict.outcome) : null) }, { name: "held in", text: true, of: (c) => c.form },
      { name: "loss", of: (c) => c.held_out.loss, show: fixed }, { name: "perplexity", of: (c) => c.held_out.perplexity, show: (p) => (p < 100 ? fixed(p) : number(p)) },
      { name: "bits per byte", of: (c) => c.held_out.bits_per_byte, show: fixed },
      { name: "difference", of: (c) => c.held_out.difference?.mean ?? null, show: signed },
      { name: "95\u00a0% interval", text: true, of: (c) => ends(c.held_out.difference) || null },
      { name: "exact", of: (c) => c.answers?.exact ?? null, show: share(most) }, { name: "JSON", of: (c) => c.answers?.json ?? null, show: share(most) },
      ...checks.map((check, i) => ({ name: check.check, of: (c) => c.answers?.checks[i].passed ?? null, show: share(most) })),
      { name: "stopped", of: (c) => c.answers?.stopped ?? null, show: share(most) }, { name: "tokens", of: (c) => c.answers?.mean_tokens ?? null },
      { name: "general loss", of: (c) => c.general?.loss ?? null, show: fixed }, { name: "forgetting", of: (c) => c.general?.forgetting?.mean ?? null, show: signed },
      { name: "divergence", of: (c) => c.general?.divergence ?? null, show: fixed },
      { name: "items", of: (c) => c.regression?.passed ?? null, show: share(candidates[0].regression?.items) },
    ].filter((column) => candidates.some((c) => column.of(c) !== null));
    return sortable("Figures of each candidate", columns, candidates).table;
  };

  /** A line for each candidate: its difference, with the interval, and zero. */
  const intervals = (title, of, note) => {
    const some = candidates.map((c) => ({ c, i: of(c) })).filter(({ i }) => i);
    if (!some.length) return null;
    const values = some.flatMap(({ i }) => [i.mean, i.low ?? i.mean, i.high ?? i.mean]);
    const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
    const [width, step] = [320, 44];
    const x = (value) => (high > low ? ((value - low) / (high - low)) * width : width / 2);
    const height = some.length * step;
    const figure = svg("svg", { viewBox: `-14 -4 ${width + 28} ${height + 26}`, role: "img",
      "aria-label": `${title}: ${some.map(({ c, i }) => `${label(c)} ${signed(i.mean)}, ${ends(i) || "no interval"}`).join("; ")}` });
    figure.append(svg("path", { class: "axis", d: `M${x(0)} 0V${height}` }));
    some.forEach(({ c, i }, row) => {
      const y = row * step + 28;
      figure.append(svg("text", { x: 0, y: y - 12 }, tail(label(c))));
      if (known(i.low)) figure.append(svg("path", { class: "median", d: `M${x(i.low)} ${y}H${x(i.high)}` }));
      figure.append(svg("circle", { class: "mean", cx: x(i.mean), cy: y, r: 4 }));
    });
    const at = (value, anchor) => svg("text", { x: x(value), y: height + 16, "text-anchor": anchor }, number(value));
    figure.append(at(low, "start"), at(high, "end"));
    if (low < 0 && high > 0) figure.append(at(0, "middle"));
    return html("div", { class: "panel figure" }, html("h3", {}, title), figure, html("p", { class: "soft" }, note));
  };

  /** Losses over the strength of an adapter. */
  const sweep = (s) => {
    const points = [...s.points].sort((a, b) => a.scale - b.scale);
    const lines = [["held-out loss", "one", (p) => p.loss], ["loss on general text", "two", (p) => p.general]]
      .filter(([, , of]) => points.some((p) => known(of(p))));
    const values = lines.flatMap(([, , of]) => points.map(of).filter(known));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [width, height] = [320, 160];
    const [from, to] = [points[0].scale, points[points.length - 1].scale];
    const x = (scale) => (to > from ? ((scale - from) / (to - from)) * width : width / 2);
    const y = (value) => (high > low ? height * (1 - (value - low) / (high - low)) : height / 2);
    const name = label(candidates[s.candidate]);
    const said = points.map((p) => `at ${p.scale}: ${lines.map(([title, , of]) => `${title} ${fixed(of(p))}`).join(", ")}`).join("; ");
    const figure = svg("svg", { viewBox: `-50 -10 ${width + 66} ${height + 34}`, role: "img", "aria-label": `${name}, ${said}` },
      svg("path", { class: "axis", d: `M0 0V${height}H${width}` }),
      svg("text", { x: -6, y: 8, "text-anchor": "end" }, number(high)), svg("text", { x: -6, y: height, "text-anchor": "end" }, number(low)),
      ...points.map((p) => svg("text", { x: x(p.scale), y: height + 16, "text-anchor": "middle" }, String(p.scale))));
    for (const [, kind, of] of lines) {
      const shown = points.filter((p) => known(of(p)));
      figure.append(svg("path", { class: `line ${kind}`, d: shown.map((p, i) => `${i ? "L" : "M"}${x(p.scale).toFixed(1)} ${y(of(p)).toFixed(1)}`).join("") }));
      shown.forEach((p) => figure.append(svg("circle", { class: `point ${kind}`, cx: x(p.scale), cy: y(of(p)), r: 3 })));
    }
    const legend = html("div", { class: "legend" }, ...lines.flatMap(([title, kind]) => [html("span", { class: `key ${kind}`, "aria-hidden": "true" }), title]));
    return html("div", { class: "panel figure" }, html("h3", { class: "path" }, name), figure, legend);
  };

  const noise = (n) => {
    const c = candidates[n.candidate];
    const rows = [
      ["held-out loss", c.held_out.loss, n.loss], ["loss on general text", c.general?.loss, n.general], ["divergence", c.general?.divergence, n.divergence],
    ].filter(([, own, spread]) => known(own) && spread).map(([name, own, spread]) => ({ name, own, ...spread }));
    const columns = [
      { name: `among ${n.draws} random adapters`, text: true, of: (r) => r.name }, { name: "its own", of: (r) => r.own, show: fixed },
      { name: "their mean", of: (r) => r.mean, show: fixed }, { name: "deviation", of: (r) => r.deviation }, { name: "z", of: (r) => r.z },
    ];
    return [html("h3", { class: "path" }, label(c)), sortable(`Random adapters beside ${label(c)}`, columns, rows).table];
  };

  /** A text with the part that differs from what was expected marked. */
  const marked = (text, expected) => {
    if (text === "") return html("p", { class: "answer soft" }, "(nothing)");
    let same = 0;
    while (expected !== null && same < text.length && text[same] === expected[same]) same++;
    const rest = text.slice(same);
    return html("pre", { class: "answer" }, html("bdi", {}, text.slice(0, same), rest && expected !== null ? html("mark", {}, rest) : rest));
  };
  const box = (title, className, ...content) => html("div", { class: "box" }, html("h4", {}, html("bdi", {}, title), className ? html("span", { class: `severity ${className[0]}` }, ` ${className[1]}`) : null), ...content);
  const state = (a) => (a.failures.length || a.exact === false ? ["error", a.failures.length ? "does not pass" : "differs"] : ["good", a.exact ? "exact" : "passes"]);
  const given = (c, a, loss, expected) => {
    const about = [known(loss) ? `loss ${fixed(loss)}` : null, a && plural(a.tokens, "token"), a && !a.stopped ? "did not stop" : null].filter(Boolean).join(", ");
    const failures = a?.failures.length ? [html("ul", { class: "failures" }, ...a.failures.map((why) => html("li", {}, why)))] : [];
    return box(label(c), a ? state(a) : null, ...(a ? [marked(a.text, expected)] : []), ...failures, html("p", { class: "soft" }, about));
  };

  /** Rows with the worst first: what the baseline did and the candidate does not, then by how much its loss is higher. */
  const answers = () => {
    const chosen = candidates.findIndex((c, i) => i > data.baseline);
    const order = html("select", { id: "order" }, ...candidates.flatMap((c, i) => (i === data.baseline ? [] : [html("option", { value: i }, `worst of ${label(c)} first`)])), html("option", { value: "line" }, "as in the file"));
    order.value = chosen < 0 ? "line" : String(chosen);
    const list = html("div", { class: "rows" });
    const more = html("button", { type: "button", class: "more" });
    let shown = AT_ONCE;
    const badness = (row, at) => {
      const [own, other] = [row.made[at], row.made[data.baseline]];
      if (!own || !other) return -Infinity;
      const passes = (m) => (m.answer ? Number(m.answer.exact !== false && m.answer.failures.length === 0) : 0);
      return (passes(other) - passes(own)) * 1e6 + own.loss - other.loss;
    };
    const draw = () => {
      const at = order.value === "line" ? null : Number(order.value);
      const rows = [...data.rows];
      if (at !== null) rows.sort((a, b) => badness(b, at) - badness(a, at));
      list.replaceChildren(...rows.slice(0, shown).map((row) => {
        const made = candidates.flatMap((c, i) => (row.made[i] ? [given(c, row.made[i].answer, row.made[i].loss, row.expected)] : []));
        const asked = row.prompt === null ? [] : [box("prompt", null, html("pre", { class: "answer" }, html("bdi", {}, row.prompt)))];
        const wanted = row.expected === null ? [] : [box("expected", null, html("pre", { class: "answer" }, html("bdi", {}, row.expected)))];
        return html("article", { class: "panel row" }, html("h3", {}, `${data.data.files.length > 1 ? `${data.data.files[row.file]}, ` : ""}line ${row.line}`),
          html("div", { class: "boxes" }, ...asked, ...wanted, ...made));
      }));
      more.hidden = shown >= rows.length;
      more.textContent = `Show ${Math.min(AT_ONCE, rows.length - shown)} more of ${rows.length}`;
    };
    order.addEventListener("change", () => { shown = AT_ONCE; draw(); });
    more.addEventListener("click", () => { shown += AT_ONCE; draw(); });
    draw();
    return [html("div", { class: "filter" }, html("label", { for: "order" }, "Order"), order), list, more];
  };

  const items = () => {
    const passes = (item, i) => item.answers[i].failures.length === 0;
    const state = (item, i) => (passes(item, i) ? "passes" : passes(item, data.baseline) ? "broke" : "fails");
    const draw = (i) => (item) => html("details", {}, html("summary", {}, html("span", { class: `severity ${passes(item, i) ? "good" : "error"}` }, state(item, i))),
      marked(item.answers[i].text, null), html("ul", { class: "failures" }, ...item.answers[i].failures.map((why) => html("li", {}, why))));
    const columns = [
      { name: "item", text: true, of: (item) => item.name }, { name: "must", text: true, of: (item) => (item.must ? "must" : "") }, { name: "line", of: (item) => item.line },
      ...candidates.map((c, i) => ({ name: label(c), text: true, of: (item) => state(item, i), draw: draw(i) })),
    ];
    const first = (item) => Math.min(...candidates.map((c, i) => ({ broke: 0, fails: 1, passes: 2 })[state(item, i)])) - (item.must ? 0.5 : 0);
    return sortable("Items of the regression file", columns, [...data.items].sort((a, b) => first(a) - first(b))).table;
  };

  const plots = [
    intervals("Held-out loss, difference", (c) => c.held_out.difference, `To ${label(baseline)}, in ${[...new Set(candidates.map((c) => unit[c.held_out.unit]))].join(" or ")}; left of the line is better.`),
    intervals("Forgetting", (c) => c.general?.forgetting ?? null, "Loss on general text above the base's; right of the line is worse."),
    ...data.sweeps.map(sweep),
  ].filter(Boolean);
  document.getElementById("reports").append(html("article", {}, html("p", { class: "soft" }, "evaluation of"),
    html("h1", {}, html("bdi", {}, candidates.slice(1).map(label).join(", ") || label(candidates[0]))),
    html("div", { class: "side-by-side overview" }, section("Verdicts", verdicts()), section("Summary", html("div", { class: "panel" }, summary()))),
    ...(data.notes.length ? [section("Notes", html("ul", { class: "panel notes" }, ...data.notes.map((note) => html("li", {}, note))))] : []),
    section("Figures", figures()),
    ...(plots.length ? [section("Curves", html("div", { class: "side-by-side overview" }, ...plots))] : []),
    ...(data.nulls.length ? [section("Beside noise", ...data.nulls.flatMap(noise))] : []),
    ...(data.items.length ? [section("Regression items", items())] : []),
    section("Rows", ...answers())));
