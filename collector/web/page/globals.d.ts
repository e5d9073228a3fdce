/** The version of the package, filled in by the build. */
declare const FLAMELINE_VERSION: string;
