  const data = JSON.parse(document.getElementById("data").textContent);
  const curves = data.curves;
  const last = curves.step.length - 1;
  const fixed = (value) => (known(value) ? value.toFixed(4) : "");
  const rate = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toExponential());
  const whole = (value) => value.toFixed(0);
  const duration = (seconds) => {
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
    if (hours) return `${hours} h ${minutes} min`;
    return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${seconds.toPrecision(3)} s`;
  };

  const result = () => {
    const e = data.estimate;
    const speed = data.seconds > 0 ? `, ${(data.tokens / data.seconds).toFixed(0)} tokens/s` : "";
    const best = data.best && `${fixed(data.best.loss)} after step ${data.best.step}`;
    const ended = { finished: "all steps are done", "stopped-early": "early: the validation loss did not fall any more", interrupted: "interrupted; the state is saved" };
    return facts([
      ["ended", ended[data.outcome]], ["steps", e ? `${data.steps} of ${e.steps}` : data.steps], ["loss of the last step", fixed(curves.loss[last])],
      ["validation loss before", fixed(data.before)], ["at best", best],
      ["tokens", `${count(data.tokens)} in ${duration(data.seconds)}${speed}`], ["memory at most", known(data.peak_bytes) ? bytes(data.peak_bytes) : null],
    ]);
  };

  const run = () => {
    const e = data.estimate;
    return facts([
      ["base", data.model], ["rows", e && `${e.rows}${e.validation_rows ? `, and ${e.validation_rows} for validation` : ""}`],
      ["trained values", e && count(e.parameters)],
      ["arithmetic", e && `${e.compute}, ${plural(e.threads, "thread")}`], [data.outcome === "interrupted" ? "state" : "adapter", data.output], ["best adapter", data.best_at],
    ]);
  };

  /** Round numbers within a range, about `most` of them. */
  const ticks = (low, high, most) => {
    const [least, power] = [(high - low) / most, 10 ** Math.floor(Math.log10((high - low) / most))];
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least * 0.999);
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, i) => (first + i) * step);
  };
  /** Powers of ten within a range. */
  const powers = (low, high) => {
    const [first, end] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
    return Array.from({ length: Math.max(0, end - first + 1) }, (_, i) => 10 ** (first + i));
  };

  /** The mean of each value and its neighbours: of a thirtieth of the curve. */
  const smoothed = (values) => {
    const reach = Math.ceil(values.length / 60);
    return values.map((_, i) => {
      // Near an end there are as many neighbours on one side as on the other.
      const far = Math.min(reach, i, values.length - 1 - i);
      const near = values.slice(i - far, i + far + 1);
      return near.reduce((sum, value) => sum + value, 0) / near.length;
    });
  };

  const validation = (step) => data.validations.findLast((v) => v.step <= step);
  /** The numbers of a step, for the card. */
  const about = (i) => {
    const [step, held] = [curves.step[i], validation(curves.step[i])];
    return [
      ["loss", fixed(curves.loss[i])], ["validation", held && `${fixed(held.loss)} (step ${held.step})`], ["learning rate", rate(curves.lr[i])],
      ["gradient norm", number(curves.grad_norm[i])], ["tokens/s", whole(curves.tok_s[i])],
      ["memory", known(curves.memory[i]) ? bytes(curves.memory[i]) : null], ["epoch", curves.epoch[i].toFixed(2)],
    ].filter(([, value]) => value);
  };

  /** Every chart marks the step that one of them is asked for. */
  const charts = [];
  let [at, asked] = [last, null];
  const point = (i, chart, box) => {
    [at, asked] = [Math.max(0, Math.min(i, last)), chart];
    charts.forEach((other) => other.mark());
    card.replaceChildren(html("h3", {}, `step ${curves.step[at]}`), facts(about(at)));
    card.hidden = false;
    beside(box ?? chart.box());
  };
  const leave = () => {
    hide();
    asked = null;
    charts.forEach((chart) => chart.mark());
  };

  /** A chart over steps. A line has a `name`, a `kind` that is a class, and `points` `[step, value]`. */
  const chart = ({ title, lines, height = 170, show = number, zero = true, logarithmic = false, best = null }) => {
    const values = lines.flatMap((line) => line.points.map(([, value]) => value)).filter(known);
    if (!values.length) return null;
    const [left, bottom, top, right] = [64, 24, 10, 14];
    const figure = svg("svg", { height: height + bottom + top, tabindex: 0, role: "slider", "aria-label": `${title} by step`, "aria-valuemin": curves.step[0], "aria-valuemax": curves.step[last] });
    const cursor = svg("path", { class: "cursor" });
    const scale = html("input", { type: "checkbox" });
    let x = null;
    const draw = (width) => {
      const inner = Math.max(80, width - left - right);
      const far = Math.max(curves.step[last], ...lines.flatMap((line) => line.points.map(([step]) => step)));
      const is_log = scale.checked;
      let [low, high] = values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [zero && !is_log ? 0 : Infinity, -Infinity]);
      if (!(high > low)) [low, high] = is_log || low === 0 ? [low / 2, low * 2 || 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
      const bend = is_log ? Math.log : (value) => value;
      x = (step) => left + (step / Math.max(far, 1)) * inner;
      const y = (value) => top + height * (1 - (bend(value) - bend(low)) / (bend(high) - bend(low)));
      const path = (points) => points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      const tens = is_log ? powers(low, high) : [];
      const levels = tens.length > 1 ? tens : is_log ? [low, high] : ticks(low, high, height / 32);
      const steps = ticks(0, Math.max(far, 1), Math.max(2, Math.floor(inner / 90))).filter(Number.isInteger);
      figure.setAttribute("width", width);
      figure.replaceChildren(
        ...levels.map((level) => svg("path", { class: "axis", d: `M${left} ${y(level)}h${inner}` })),
        ...levels.map((level) => svg("text", { x: left - 8, y: y(level) + 4, "text-anchor": "end" }, show(level))),
        ...steps.map((step) => svg("text", { x: x(step), y: top + height + 18, "text-anchor": "middle" }, String(step))),
        cursor,
        ...lines.map((line) => svg("path", { class: line.kind, d: path(line.points) })),
        ...lines.filter((line) => line.dots || line.points.length === 1).flatMap((line) => line.points.map(([step, value]) => svg("circle", { class: `point ${line.key ?? "one"}`, cx: x(step), cy: y(value), r: 3 }))));
      if (best) figure.append(svg("circle", { class: "best", cx: x(best.step), cy: y(best.loss), r: 6 }));
      own.mark();
    };
    const own = {
      mark: () => {
        cursor.setAttribute("d", asked && x ? `M${x(curves.step[at])} ${top}v${height}` : "");
        figure.setAttribute("aria-valuenow", curves.step[at]);
        figure.setAttribute("aria-valuetext", `step ${curves.step[at]}: ${about(at).map(([name, value]) => `${name} ${value}`).join(", ")}`);
      },
      box: () => {
        const box = figure.getBoundingClientRect();
        const middle = box.left + x(curves.step[at]);
        return { left: middle, right: middle, top: box.top + 20 };
      },
    };
    charts.push(own);
    const nearest = (event) => {
      const place = event.clientX - figure.getBoundingClientRect().left;
      let i = curves.step.findIndex((step) => x(step) >= place);
      if (i < 0) i = last;
      return i > 0 && place - x(curves.step[i - 1]) < x(curves.step[i]) - place ? i - 1 : i;
    };
    const page = Math.max(1, Math.round(curves.step.length / 20));
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page, Home: -Infinity, End: Infinity };
    figure.addEventListener("pointermove", (event) => point(nearest(event), own, { left: event.clientX, right: event.clientX, top: event.clientY }));
    figure.addEventListener("pointerleave", leave);
    figure.addEventListener("focus", () => { if (figure.matches(":focus-visible")) point(at, own); });
    figure.addEventListener("blur", leave);
    figure.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
      if (!(event.key in moves)) return;
      event.preventDefault();
      point(at + moves[event.key], own);
    });
    const named = lines.filter((line) => line.name);
    const keys = named.length > 1 ? named.flatMap((line) => [html("span", { class: `key ${line.key}`, "aria-hidden": "true" }), line.name]) : [];
    const bends = logarithmic && values.every((value) => value > 0);
    scale.addEventListener("change", () => draw(holder.clientWidth));
    const legend = keys.length || bends ? html("div", { class: "legend" }, ...keys, bends ? html("label", {}, scale, " logarithmic") : null) : null;
    const holder = html("div", { class: "chart" }, figure);
    new ResizeObserver(() => draw(holder.clientWidth)).observe(holder);
    return html("div", { class: "panel" }, html("h3", {}, title), holder, legend);
  };

  const over = (values) => curves.step.map((step, i) => [step, values[i]]).filter(([, value]) => known(value));
  const plots = () => {
    const noisy = last >= 20;
    const loss = chart({
      title: "Loss, in nats per token", height: 260, zero: false, show: number, logarithmic: true, best: data.validations.length ? data.best : null,
      lines: [
        noisy ? { kind: "curve", points: over(curves.loss) } : null,
        { name: noisy ? "training, smoothed" : "training", kind: "line one", key: "one", points: over(noisy ? smoothed(curves.loss) : curves.loss) },
        data.validations.length ? { name: "validation", kind: "line two", key: "two", dots: true, points: data.validations.map((v) => [v.step, v.loss]) } : null,
      ].filter(Boolean),
    });
    const one = (title, values, show) => chart({ title, show, lines: [{ kind: "line one", points: over(values) }] });
    const small = [
      one("Learning rate", curves.lr, rate), one("Gradient norm, before it is clipped", curves.grad_norm),
      one("Tokens a second", curves.tok_s, whole), one("Memory", curves.memory, bytes),
    ].filter(Boolean);
    const means = curves.each > 1 ? ` Each point stands for ${curves.each} steps: their mean, and the largest norm and memory.` : "";
    return [html("p", { class: "soft" }, `By step; point at a chart, or move along it with the arrow keys.${means}`), loss, html("div", { class: "side-by-side overview" }, ...small)];
  };

  /** A prompt with its answers; equal ones that follow each other are one. */
  const prompt = (all) => {
    const runs = [];
    for (const s of all) {
      const before = runs[runs.length - 1];
      if (before && before.answer === s.answer && before.stop === s.stop) before.to = s.step;
      else runs.push({ ...s, from: s.step, to: s.step });
    }
    const ends = { end: "", text: "", length: "cut off", context: "cut off: the context is full" };
    const answers = runs.map((s) => html("div", { class: "box" },
      html("h4", {}, s.from === s.to ? `step ${s.from}` : `steps ${s.from} to ${s.to}`,
        all[0].expected !== null && s.answer === all[0].expected ? html("span", { class: "severity good" }, " as expected") : null),
      s.answer === "" ? html("p", { class: "answer soft" }, "(nothing)") : html("pre", { class: "answer" }, html("bdi", {}, s.answer)),
      html("p", { class: "soft" }, [plural(s.tokens, "token"), ends[s.stop]].filter(Boolean).join(", "))));
    const given = [["prompt", all[0].prompt], ["expected", all[0].expected]].filter(([, text]) => text !== null)
      .map(([name, text]) => html("div", { class: "box" }, html("h4", {}, name), html("pre", { class: "answer" }, html("bdi", {}, text))));
    return html("article", { class: "panel row" }, html("div", { class: "boxes" }, ...given, ...answers));
  };
  const samples = () => {
    const prompts = new Map();
    data.samples.forEach((s) => prompts.set(s.sample, [...(prompts.get(s.sample) ?? []), s]));
    return [...prompts.values()].map(prompt);
  };

  const settings = () => {
    const told = ({ value, usual }) => html("dd", {}, html("bdi", {}, value === usual ? html("span", { class: "soft" }, value) : html("strong", {}, value)));
    return html("div", { class: "side-by-side overview" }, ...data.settings.map(({ title, keys }) => html("div", { class: "panel" }, html("h3", {}, title),
      html("dl", {}, ...keys.flatMap((key) => [html("dt", {}, key.name), told(key)])))));
  };

  document.getElementById("reports").append(html("article", {}, html("p", { class: "soft" }, "training of"),
    html("h1", {}, html("bdi", {}, ...broken(data.folder))),
    html("div", { class: "side-by-side overview" }, section("Result", html("div", { class: "panel" }, result())), section("Run", html("div", { class: "panel" }, run()))),
    section("Curves", ...plots()),
    ...(data.samples.length ? [section("Samples", ...samples())] : []),
    section("Settings", html("p", { class: "soft" }, "What differs from the default is bold."), settings())));
