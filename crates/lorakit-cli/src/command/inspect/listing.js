  const data = JSON.parse(document.getElementById("data").textContent);
  const counts = data.counts;
  const roots = [...new Set(data.entries.map((e) => e.root))];

  const place = (root, path) => (path === "." ? root : root === "" || root.endsWith("/") ? root + path : `${root}/${path}`);
  /** Where an entry is: with several folders, in which of them. */
  const name = (e) => (roots.length > 1 ? place(e.root, e.path) : e.path);
  const range = (r, show) => (r.min === r.max ? show(r.min) : `${show(r.min)}-${show(r.max)}`);
  const amount = (e, level) => e.findings.filter((f) => severity(f) === level).length;
  const gravity = (e) => amount(e, "error") * 1e6 + amount(e, "warning") * 1e3 + amount(e, "note");

  /** The names of an entry's findings; opened, what each means. */
  const findings = (e) => {
    if (e.findings.length === 0) return html("span", { class: "good" }, "none");
    const names = ["error", "warning", "note"].flatMap((level) => {
      const codes = [...new Set(e.findings.filter((f) => severity(f) === level).map((f) => f.code))];
      return codes.length ? [html("span", { class: "names" }, html("span", { class: `severity ${level}` }, level), ` ${codes.join(", ")}`)] : [];
    });
    const item = (f) => html("li", {}, html("span", { class: `severity ${severity(f)}` }, severity(f)),
      html("span", { class: "path" }, f.subject ? html("bdi", {}, `${f.subject}: `) : null, f.message));
    return html("details", {}, html("summary", {}, ...names), html("ul", { class: "findings" }, ...e.findings.map(item)));
  };

  const path = (e) => html("span", { class: "path" }, html("bdi", {}, name(e)),
    ...(e.hub ? [html("span", { class: "soft block" }, `${e.hub.id}, revision ${e.hub.revision}`)] : []),
    ...e.also.map((also) => html("span", { class: "soft block" }, "also at ", html("bdi", {}, also))));

  const columns = [
    { name: "path", text: true, of: name, draw: path }, { name: "kind", text: true, of: (e) => e.kind },
    { name: "format", text: true, of: (e) => e.format }, { name: "base", text: true, of: (e) => e.base },
    { name: "licence", text: true, of: (e) => e.licenses.join(", ") || null },
    { name: "rank", of: (e) => e.rank?.max ?? null, draw: (e) => (e.rank ? range(e.rank, String) : "") },
    { name: "scale", of: (e) => e.scale?.max ?? null, draw: (e) => (e.scale ? range(e.scale, number) : "") },
    { name: "norm", of: (e) => e.norm }, { name: "effective rank", of: (e) => e.effective_rank, show: (v) => v.toFixed(2) },
    { name: "size", of: (e) => e.bytes, show: bytes }, { name: "findings", text: true, of: gravity, draw: findings },
  ].filter((c) => c.draw || data.entries.some((e) => c.of(e) !== null));

  const violations = () => {
    const cells = [["path", (v) => place(v.root, v.path)], ["rule", (v) => v.rule], ["found", (v) => v.found], ["allowed", (v) => v.allowed]];
    return sortable("Rules that are broken", cells.map(([title, of]) => ({ name: title, text: true, of, draw: (v) => html("span", { class: "path" }, of(v)) })), data.violations).table;
  };

  const total = [plural(counts.adapters, "adapter"), plural(counts.models, "model"), bytes(counts.bytes)].join(", ");
  const grave = [[counts.with_errors, "error"], [counts.with_warnings, "warning"]].filter(([n]) => n > 0).map(([n, level]) => `${n} with ${level}s`).join(", ");
  const some = counts.found > counts.entries ? `${counts.entries} of ${counts.found} that were found: ` : "";
  const { table, rows } = sortable("Adapters and models", columns, data.entries);
  document.getElementById("reports").append(html("article", {}, html("p", { class: "soft" }, "adapters and models in"),
    html("h1", {}, html("bdi", {}, roots.map((root) => root || ".").join(", ") || "no folder")),
    html("p", {}, `${some}${total}${grave ? `; ${grave}` : ""}`),
    ...(data.violations.length ? [section(`Rules that are broken, by ${counts.in_violation} of ${counts.entries}`, violations())] : []),
    section("Everything", filter("Show paths with", "filter", rows, name), table)));
