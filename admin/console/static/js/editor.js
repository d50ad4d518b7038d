// Makes of the text area for a flow's file an editor with YAML's colours and the checker's problems at their lines.
// It stands in a shadow tree, whose style sheets the page's policy permits; without scripts the text area remains.
const area = document.querySelector("textarea[data-editor]");

const check = async (text) => {
  const response = await fetch("/api/check", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": area.form.elements.csrf_token.value },
    body: JSON.stringify({ document: text }),
  });
  return response.ok ? (await response.json()).problems : [];
};

const diagnostic = (document, problem) => {
  const line = document.line(Math.min(Math.max(problem.line, 1), document.lines));
  const message = problem.key ? `${problem.key}: ${problem.message}` : problem.message;
  return { from: line.from + line.text.search(/\S|$/), to: line.to, severity: "error", message };
};

if (area) {
  const cm = await import(area.dataset.editor);
  const host = document.createElement("div");
  host.className = "code-editor";
  area.after(host);
  const shadow = host.attachShadow({ mode: "open" });
  const colours = cm.HighlightStyle.define([
    { tag: [cm.tags.propertyName, cm.tags.definition(cm.tags.propertyName)], color: "var(--link)" },
    { tag: [cm.tags.string, cm.tags.content], color: "var(--ink)" },
    { tag: [cm.tags.comment, cm.tags.meta], color: "var(--quiet)" },
    { tag: [cm.tags.keyword, cm.tags.bool, cm.tags.number], color: "var(--busy)" },
  ]);
  const look = cm.EditorView.theme({
    "&": { border: "1px solid var(--quiet)", background: "var(--paper)", color: "var(--ink)", fontSize: ".88em" },
    "&.cm-focused": { outline: "2px solid var(--link)" },
    ".cm-content": { caretColor: "var(--ink)" },
    ".cm-cursor": { borderLeftColor: "var(--ink)" },
    ".cm-gutters": { background: "var(--fill)", color: "var(--quiet)", border: "0" },
    ".cm-activeLine": { background: "var(--fill)" },
    "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { background: "var(--line) !important" },
    ".cm-lint-marker-error": { content: "'●'", color: "var(--bad)" }, // the policy permits no images in style sheets
    ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)" },
    ".cm-tooltip": { background: "var(--paper)", border: "1px solid var(--quiet)", color: "var(--ink)" },
    ".cm-scroller": { minHeight: "20rem", maxHeight: "45rem", overflow: "auto", fontFamily: "ui-monospace, monospace" },
  });
  const view = new cm.EditorView({
    parent: shadow,
    root: shadow,
    state: cm.EditorState.create({
      doc: area.value,
      extensions: [
        cm.lineNumbers(), cm.history(), cm.drawSelection(), cm.indentOnInput(), cm.highlightActiveLine(), cm.yaml(),
        cm.syntaxHighlighting(colours), look, cm.lintGutter(), cm.EditorView.lineWrapping,
        cm.EditorView.contentAttributes.of({ "aria-label": area.labels?.[0]?.textContent ?? "File" }),
        cm.keymap.of([...cm.defaultKeymap, ...cm.historyKeymap, ...cm.lintKeymap]),
        cm.EditorView.updateListener.of((update) => update.docChanged && (area.value = update.state.doc.toString())),
        cm.linter(async (editor) => {
          const { doc } = editor.state;
          return (await check(doc.toString())).map((problem) => diagnostic(doc, problem));
        }),
      ],
    }),
  });
  area.hidden = true;
  area.required = false; // the browser could not show that it is empty
  host.view = view;
}
