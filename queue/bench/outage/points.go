package main

import (
	"cmp"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
)

// cellSize is the width and the height of a point.
const cellSize vg.Length = 2

// points draws each call as a square of a raster, and squares that touch as one upright line.
// So thousands of calls are a small file, and no call is left out, the slowest least of all.
type points struct {
	calls  []call
	colour color.Color
}

// cell is a place in the raster.
type cell struct{ column, row int }

// Plot implements plot.Plotter.
func (p points) Plot(c vgdraw.Canvas, panel *plot.Plot) {
	x, y := panel.Transforms(&c)
	var cells []cell
	for _, call := range p.calls {
		cells = append(cells, cell{
			column: int(math.Floor(float64(x(call.at.Seconds()) / cellSize))),
			row:    int(math.Floor(float64(y(call.took.Seconds()) / cellSize))),
		})
	}
	var path vg.Path
	for _, l := range lines(cells) {
		path.Move(vg.Point{X: (vg.Length(l.column) + 0.5) * cellSize, Y: vg.Length(l.row) * cellSize})
		path.Line(vg.Point{X: (vg.Length(l.column) + 0.5) * cellSize, Y: vg.Length(l.row+l.rows) * cellSize})
	}
	c.SetLineStyle(vgdraw.LineStyle{Color: p.colour, Width: cellSize})
	c.Stroke(path)
}

// Thumbnail implements plot.Thumbnailer.
func (p points) Thumbnail(c *vgdraw.Canvas) {
	c.DrawGlyph(vgdraw.GlyphStyle{Color: p.colour, Radius: 3, Shape: vgdraw.BoxGlyph{}}, c.Center())
}

// line is so many cells, one upon the other.
type line struct {
	cell
	rows int
}

// lines returns lines that cover the cells and nothing else.
func lines(cells []cell) (ls []line) {
	slices.SortFunc(cells, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.column, b.column), cmp.Compare(a.row, b.row))
	})
	for _, c := range slices.Compact(cells) {
		if n := len(ls); n > 0 && ls[n-1].column == c.column && ls[n-1].row+ls[n-1].rows == c.row {
			ls[n-1].rows++
		} else {
			ls = append(ls, line{c, 1})
		}
	}
	return ls
}
