// The page's beginning. The screens come here.
export {};
