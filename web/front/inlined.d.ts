// What the build puts in as text: see build/bundle.mjs.
declare module "script:*" {
  const source: string;
  export default source;
}
declare module "packed:*" {
  const base64: string;
  export default base64;
}
declare module "text:*" {
  const text: string;
  export default text;
}
