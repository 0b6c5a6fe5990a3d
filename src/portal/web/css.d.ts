/** A style sheet is imported for its effect: the build puts it beside the page. */
declare module '*.css';
