// What admin/console/static/js/editor.js uses of CodeMirror.
export { EditorView, keymap, lineNumbers, highlightActiveLine, drawSelection } from "@codemirror/view";
export { EditorState } from "@codemirror/state";
export { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
export { HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
export { linter, lintGutter, lintKeymap } from "@codemirror/lint";
export { yaml } from "@codemirror/lang-yaml";
export { tags } from "@lezer/highlight";
