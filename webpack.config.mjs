import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { EsbuildPlugin } from 'esbuild-loader';
import webpack from 'webpack';

const root = path.dirname(fileURLToPath(import.meta.url));
const inRoot = (...parts) => path.join(root, ...parts);
const { version } = JSON.parse(readFileSync(inRoot('package.json'), 'utf8'));

/** Modules that Grafana 12 and 13 share with plugins. */
const GRAFANA_EXTERNALS = [
  '@emotion/css',
  '@emotion/react',
  '@grafana/data',
  '@grafana/runtime',
  '@grafana/ui',
  'i18next',
  'lodash',
  'moment',
  'react',
  'react-dom',
  'react/jsx-runtime',
  'react/jsx-dev-runtime',
  'rxjs',
  'rxjs/operators',
];

/** The code editor and Grafana's assistant, which no page of ours has. */
const NOT_BUNDLED = { 'monaco-editor': false, '@monaco-editor/react': false, '@grafana/assistant': false };

/** What @grafana/i18n needs in Grafana itself: finding out the language, texts with marks. */
const NOT_IN_PLUGINS = { 'i18next-browser-languagedetector': false, 'i18next-pseudo': false };

/** What every bundle has in common. */
function base(production) {
  return {
    mode: production ? 'production' : 'development',
    context: root,
    target: ['web', 'es2022'],
    devtool: production ? false : 'source-map',
    resolve: { extensions: ['.tsx', '.ts', '.mjs', '.js'] },
    module: {
      rules: [
        // The classic JSX transform needs nothing but React itself: Grafana
        // before 12.0.10 does not share react/jsx-runtime.
        { test: /\.tsx?$/, loader: 'esbuild-loader', options: { target: 'es2022', jsx: 'transform' } },
        { test: /\.mjs$/, type: 'javascript/auto', resolve: { fullySpecified: false } },
        { test: /\.css$/, use: ['style-loader', 'css-loader'] },
      ],
    },
    optimization: { minimizer: [new EsbuildPlugin({ target: 'es2022', legalComments: 'none' })] },
    performance: { hints: false },
    stats: 'errors-warnings',
  };
}

/** Emits files as they are, or changed by their transform. */
class CopyFiles {
  /** @param files list of { from, to, transform } */
  constructor(files) {
    this.files = files;
  }

  apply(compiler) {
    compiler.hooks.thisCompilation.tap('CopyFiles', (compilation) => {
      const stage = webpack.Compilation.PROCESS_ASSETS_STAGE_ADDITIONAL;
      compilation.hooks.processAssets.tapPromise({ name: 'CopyFiles', stage }, async () => {
        for (const { from, to, transform } of this.files) {
          for (const [source, target] of await listFiles(from, to)) {
            const content = await readFile(source);
            compilation.emitAsset(target, new webpack.sources.RawSource(transform ? transform(content) : content));
          }
        }
      });
    });
  }
}

/** Pairs of a source path and an asset's name, of a file or a whole folder. */
async function listFiles(from, to) {
  if (path.extname(from) || path.basename(from) === 'LICENSE') {
    return [[from, to]];
  }
  const entries = await readdir(from, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const source = path.join(entry.parentPath ?? entry.path, entry.name);
      return [source, path.posix.join(to, path.relative(from, source).split(path.sep).join('/'))];
    });
}

/** Writes index.html with the scripts of the entry point. */
class IndexHtml {
  constructor(template) {
    this.template = template;
  }

  apply(compiler) {
    compiler.hooks.thisCompilation.tap('IndexHtml', (compilation) => {
      const stage = webpack.Compilation.PROCESS_ASSETS_STAGE_SUMMARIZE;
      compilation.hooks.processAssets.tapPromise({ name: 'IndexHtml', stage }, async () => {
        const html = await readFile(this.template, 'utf8');
        const scripts = [...compilation.entrypoints.values()]
          .flatMap((entry) => entry.getFiles())
          .filter((file) => file.endsWith('.js'))
          .map((file) => `<script defer src="${file}"></script>`);
        const page = html.replace('<!-- scripts -->', scripts.join('\n    '));
        compilation.emitAsset('index.html', new webpack.sources.RawSource(page));
      });
    });
  }
}

/** Fails a build in which a script has more bytes than a limit, compressed as web servers send it. */
class SizeLimit {
  constructor(name, limit) {
    this.name = name;
    this.limit = limit;
  }

  apply(compiler) {
    compiler.hooks.thisCompilation.tap('SizeLimit', (compilation) => {
      const stage = webpack.Compilation.PROCESS_ASSETS_STAGE_REPORT;
      compilation.hooks.processAssets.tap({ name: 'SizeLimit', stage }, (assets) => {
        const size = gzipSync(assets[this.name].buffer()).length;
        if (size > this.limit) {
          const message = `${this.name} has ${size} bytes compressed, more than ${this.limit}`;
          compilation.errors.push(new webpack.WebpackError(message));
        }
      });
    });
  }
}

/** The plugin's frontend, an AMD module that Grafana loads with SystemJS. */
function plugin(production) {
  const fill = (content) =>
    content
      .toString()
      .replaceAll('%VERSION%', version)
      .replaceAll('%TODAY%', new Date().toISOString().slice(0, 10));
  const { id } = JSON.parse(readFileSync(inRoot('src/plugin.json'), 'utf8'));
  return {
    ...base(production),
    name: 'plugin',
    entry: { module: './src/module.ts' },
    resolve: { ...base(production).resolve, alias: NOT_IN_PLUGINS },
    externals: GRAFANA_EXTERNALS,
    output: {
      path: inRoot('dist'),
      filename: '[name].js',
      // Editors are loaded when they are shown; browsers keep them by their content.
      chunkFilename: '[name].js?_cache=[contenthash:8]',
      library: { type: 'amd' },
      publicPath: `public/plugins/${id}/`,
      uniqueName: id,
      // The backend's binaries are built beside it.
      clean: { keep: /^(gpx_|go_plugin_build_manifest)/ },
    },
    plugins: [
      ...(production ? [new SizeLimit('module.js', 150_000)] : []),
      new CopyFiles([
        { from: inRoot('src/plugin.json'), to: 'plugin.json', transform: fill },
        { from: inRoot('src/img'), to: 'img' },
        { from: inRoot('src/dashboards'), to: 'dashboards' },
        { from: inRoot('src/locales'), to: 'locales' },
        ...['README.md', 'CHANGELOG.md', 'LICENSE']
          .filter((name) => existsSync(inRoot(name)))
          .map((name) => ({ from: inRoot(name), to: name })),
      ]),
    ],
  };
}

/** Icons and fonts where @grafana/ui looks for them. */
function grafanaAssets() {
  const modules = inRoot('node_modules');
  const inter = (style) => path.join(modules, `@fontsource-variable/inter/files/inter-latin-wght-${style}.woff2`);
  const mono = path.join(modules, '@fontsource-variable/roboto-mono/files/roboto-mono-latin-wght-normal.woff2');
  return [
    { from: path.join(modules, '@grafana/ui/dist/public/img/icons'), to: 'public/build/img/icons' },
    // Icons that its components ask for and its package lacks.
    { from: inRoot('collector/web/page/icons'), to: 'public/build/img/icons/unicons' },
    // Variable fonts hold all weights.
    { from: inter('normal'), to: 'public/fonts/inter/Inter-Regular.woff2' },
    { from: inter('normal'), to: 'public/fonts/inter/Inter-Medium.woff2' },
    { from: inter('italic'), to: 'public/fonts/inter/Inter-Italic.woff2' },
    { from: inter('italic'), to: 'public/fonts/inter/Inter-MediumItalic.woff2' },
    { from: mono, to: 'public/fonts/roboto/L0xTDF4xlVMF-BfR8bXMIhJHg45mwgGEFl0_3vrtSM1J-gEPT5Ese6hmHSh0mQ.woff2' },
  ];
}

/** The built-in page, which the server embeds. */
function page(production) {
  return {
    ...base(production),
    name: 'page',
    entry: { page: './collector/web/page/main.tsx' },
    resolve: { ...base(production).resolve, alias: NOT_BUNDLED },
    output: {
      path: inRoot('collector/web/dist'),
      filename: 'assets/[name].[contenthash:8].js',
      publicPath: '',
      uniqueName: 'flameline',
      clean: { keep: /^\.gitkeep$/ },
    },
    optimization: {
      ...base(production).optimization,
      splitChunks: {
        chunks: 'all',
        cacheGroups: { grafana: { test: /node_modules/, name: 'grafana', chunks: 'initial' } },
      },
    },
    plugins: [
      new webpack.DefinePlugin({ FLAMELINE_VERSION: JSON.stringify(version) }),
      new IndexHtml(inRoot('collector/web/page/index.html')),
      new CopyFiles([...grafanaAssets(), { from: inRoot('src/img'), to: 'img' }]),
    ],
  };
}

/**
 * A stand-in for Grafana's frontend that loads the built plugin; only for
 * tests. Packages that stand in modules replace those of this repository.
 */
function harness(name, modules) {
  const systemjs = inRoot('node_modules/systemjs/dist');
  const packages = ['@emotion/css', '@grafana/data', '@grafana/i18n', '@grafana/runtime', '@grafana/schema'];
  packages.push('@grafana/ui', 'i18next', 'react', 'react-dom', 'rxjs');
  const files = { 'react/jsx-runtime$': 'react/jsx-runtime.js', 'react-dom/client$': 'react-dom/client.js' };
  const replaced = { ...Object.fromEntries(packages.map((id) => [`${id}$`, id])), ...files };
  const alias = modules
    ? Object.fromEntries(Object.entries(replaced).map(([id, file]) => [id, path.join(modules, file)]))
    : {};
  return {
    ...base(false),
    name,
    devtool: false,
    entry: { harness: './e2e/browser/harness/main.tsx' },
    resolve: { ...base(false).resolve, alias: { ...alias, ...NOT_BUNDLED } },
    output: { path: inRoot('test-results', name), filename: '[name].js', publicPath: '', clean: true },
    plugins: [
      new CopyFiles([
        ...grafanaAssets(),
        { from: inRoot('e2e/browser/harness/index.html'), to: 'index.html' },
        { from: path.join(systemjs, 'system.js'), to: 'system.js' },
        { from: path.join(systemjs, 'extras/amd.js'), to: 'amd.js' },
      ]),
    ],
  };
}

const BUNDLES = {
  plugin,
  page,
  harness12: () => harness('harness12'),
  harness13: () => harness('harness13', inRoot('e2e/browser/grafana13/node_modules')),
};

/** Builds what --env names: `webpack --env page --env production`. */
export default function config(env) {
  const names = Object.keys(BUNDLES).filter((name) => env[name]);
  return names.map((name) => BUNDLES[name](Boolean(env.production)));
}
