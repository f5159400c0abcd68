// What the compiler does not see: promises that nobody waits for, and ways to put others' text where it would run.
import tseslint from "typescript-eslint";

const NO_HTML = "others' text is shown by textContent and by nothing else";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "pkg/"] },
  {
    files: ["front/**/*.ts", "tests/**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      "no-console": "error",
      "no-eval": "error",
      "@typescript-eslint/no-implied-eval": "error",
      // Parts of a state are taken out by name.
      "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true, varsIgnorePattern: "^_" }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe"].map((property) => ({ property, message: NO_HTML })),
        { object: "document", property: "write", message: NO_HTML },
        { object: "document", property: "writeln", message: NO_HTML },
      ],
    },
  },
  {
    files: ["tests/**/*.ts", "**/*.test.ts", "front/ui/tests/**/*.ts"],
    // node's `test` is waited for by its runner.
    rules: { "no-console": "off", "@typescript-eslint/no-floating-promises": "off" },
  },
);
