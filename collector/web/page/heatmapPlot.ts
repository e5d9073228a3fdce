import { type GrafanaTheme2 } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation, VisibilityMode } from '@grafana/schema';
import { UPLOT_AXIS_FONT_SIZE, UPlotConfigBuilder } from '@grafana/ui';
import { blocks, type Cell, cellAt, colorOf, type Heatmap, namedRows, shorten } from './heatmap';

/** A selection of fewer pixels is a click. */
const MIN_DRAG = 5;
/** From this size on, in pixels of the canvas, cells have a gap between them. */
const MIN_GAP = 6;
/** What the time axis takes of the chart's height, in pixels. */
const X_AXIS_HEIGHT = 30;
/** The room that the name of a row needs, in pixels. */
const NAME_HEIGHT = UPLOT_AXIS_FONT_SIZE + 2;
/** The width of a character of a name, in pixels, and the part of the chart that names may take. */
const NAME_CHAR = 7;
const NAME_PART = 0.3;

/** A cell that is pointed at, by mouse or keyboard, and where on the screen. */
export interface Pointed extends Cell {
  x: number;
  y: number;
}

export interface Handlers {
  onPoint: (at: Pointed | undefined) => void;
  onOpen: (cell: Cell) => void;
  /** Unix milliseconds. */
  onSelect: (range: { from: number; to: number }) => void;
}

/** What a plot shows and whom it tells. */
interface Shown extends Handlers {
  map: Heatmap;
  /** The ends of the time axis in Unix milliseconds. */
  range: { from: number; to: number };
}

type UPlot = Parameters<NonNullable<Parameters<typeof UPlotConfigBuilder.prototype.addHook<'draw'>>[1]>>[0];

/**
 * The uPlot of a heat map. What it shows can change without a new uPlot, which would
 * lose the focus and the cursor; uPlot draws it when it gets data.
 */
export class HeatmapPlot {
  readonly config = new UPlotConfigBuilder('browser');
  private shown?: Shown;

  constructor(
    theme: GrafanaTheme2,
    private readonly colors: readonly string[],
    label: string
  ) {
    const { config } = this;
    config.addScale({
      scaleKey: 'x',
      isTime: true,
      orientation: ScaleOrientation.Horizontal,
      direction: ScaleDirection.Right,
      range: () => [this.shown?.range.from ?? 0, this.shown?.range.to ?? 1],
    });
    config.addScale({
      scaleKey: 'y',
      orientation: ScaleOrientation.Vertical,
      direction: ScaleDirection.Up,
      range: () => [0, this.rowCount()],
    });
    config.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, timeZone: 'browser', theme, grid: { show: false } });
    config.addAxis({
      scaleKey: 'y',
      placement: AxisPlacement.Left,
      theme,
      grid: { show: false },
      ticks: { show: false },
      splits: (u) => namedRows(this.rowCount(), (u.height - X_AXIS_HEIGHT) / this.rowCount(), NAME_HEIGHT).map((row) => row + 0.5),
      values: (u, splits) =>
        splits.map((at) => shorten(this.shown?.map.rows[Math.floor(at)]?.name ?? '', Math.floor((u.width * NAME_PART) / NAME_CHAR))),
    });
    config.addSeries({ scaleKey: 'y', theme, pathBuilder: () => null, showPoints: VisibilityMode.Never });
    config.setCursor({ y: true, points: { show: false } });
    config.addHook('init', (u) => this.listen(u, label));
    config.addHook('draw', (u) => this.draw(u));
    config.addHook('setCursor', (u) => this.point(u));
    config.addHook('setSelect', (u) => this.select(u));
  }

  /** Sets what is drawn when uPlot gets its data the next time. */
  set(shown: Shown) {
    this.shown = shown;
  }

  private rowCount(): number {
    return Math.max(this.shown?.map.rows.length ?? 0, 1);
  }

  private listen(u: UPlot, label: string) {
    const open = () => {
      const cell = this.cell(u);
      if (cell) {
        this.shown?.onOpen(cell);
      }
    };
    u.root.setAttribute('role', 'application');
    u.root.setAttribute('aria-label', label);
    u.over.addEventListener('click', open);
    u.root.addEventListener('keydown', (event) => event.key === 'Enter' && open());
    u.root.addEventListener('blur', () => this.shown?.onPoint(undefined));
  }

  /** The cell below the cursor. */
  private cell(u: UPlot): Cell | undefined {
    const { left = -1, top = -1 } = u.cursor;
    return this.shown && left >= 0 && top >= 0
      ? cellAt(this.shown.map, u.posToVal(left, 'x'), u.posToVal(top, 'y'))
      : undefined;
  }

  private point(u: UPlot) {
    const cell = this.cell(u);
    const { left, top } = u.over.getBoundingClientRect();
    this.shown?.onPoint(cell && { ...cell, x: left + (u.cursor.left ?? 0), y: top + (u.cursor.top ?? 0) });
  }

  // ZoomPlugin does not take what was selected by the keyboard.
  private select(u: UPlot) {
    const { left, width } = u.select;
    if (width >= MIN_DRAG) {
      this.shown?.onSelect({ from: u.posToVal(left, 'x'), to: u.posToVal(left + width, 'x') });
    }
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  private draw(u: UPlot) {
    if (!this.shown) {
      return;
    }
    const { ends, step, rows, max } = this.shown.map;
    const x = (time: number) => Math.round(u.valToPos(time, 'x', true));
    const y = (row: number) => Math.round(u.valToPos(row, 'y', true));
    const edges = [...ends.map((end) => x(end - step)), x(ends.at(-1) ?? 0)];
    const [gapX, gapY] = [gap(x(ends[0] ?? 0) - x((ends[0] ?? 0) - step)), gap(Math.abs(y(1) - y(0)))];
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    rows.forEach(({ values }, row) => {
      const [bottom, top] = [y(row), y(row + 1)];
      const height = Math.max(bottom - top - gapY, 1);
      for (const { left, right, value } of blocks(values, edges)) {
        if (value !== null) {
          ctx.fillStyle = colorOf(this.colors, value, max);
          ctx.fillRect(left, top, right - left - gapX, height);
        }
      }
    });
    ctx.restore();
  }
}

function gap(size: number): number {
  return size >= MIN_GAP ? 1 : 0;
}
