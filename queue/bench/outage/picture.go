package main

import (
	"bytes"
	"image/color"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	width  vg.Length = 760 // points
	height vg.Length = 460
)

// Colours on white: the picture brings its own background, for pages that are dark.
func blue() color.Color  { return color.RGBA{R: 31, G: 95, B: 175, A: 255} }
func red() color.Color   { return color.RGBA{R: 205, G: 45, B: 35, A: 255} }
func light() color.Color { return color.RGBA{R: 238, G: 236, B: 230, A: 255} }
func dark() color.Color  { return color.RGBA{R: 222, G: 218, B: 208, A: 255} }

// draw returns the picture as SVG: a panel for each record, with the same axes.
func draw(p plan, runs []*record) ([]byte, error) {
	canvas := vgsvg.New(width, height)
	dc := vgdraw.New(canvas)
	dc.FillPolygon(color.White, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	tiles := vgdraw.Tiles{
		Rows: len(runs), Cols: 1, PadY: 12,
		PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 14,
	}
	panels := make([][]*plot.Plot, len(runs))
	for i, r := range runs {
		panel, err := panel(p, r, spread(runs))
		if err != nil {
			return nil, err
		}
		panels[i] = []*plot.Plot{panel}
	}
	panels[len(runs)-1][0].X.Label.Text = "seconds; a call stands where it began"
	for i, row := range plot.Align(panels, tiles, dc) {
		panels[i][0].Draw(row[0])
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return nil, err
	}
	// Fonts of the same widths, where there is no Liberation.
	return bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// spread is the range of the latency axis: whole powers of ten of a second.
func spread(runs []*record) (ends [2]float64) {
	ends = [2]float64{1, 1}
	for _, r := range runs {
		for _, c := range r.calls {
			for c.took.Seconds() < ends[0] {
				ends[0] /= 10
			}
			for c.took.Seconds() > ends[1] {
				ends[1] *= 10
			}
		}
	}
	return ends
}

func panel(p plan, r *record, ends [2]float64) (*plot.Plot, error) {
	panel := plot.New()
	panel.Title.Text = r.summary()
	panel.Y.Label.Text = "Enqueue took"
	panel.X.Min, panel.X.Max = 0, p.length().Seconds()
	panel.Y.Min, panel.Y.Max = ends[0], ends[1]
	panel.Y.Scale = plot.LogScale{}
	panel.Y.Tick.Marker = decades(ends)
	for _, f := range []*font.Font{
		&panel.Title.TextStyle.Font, &panel.X.Label.TextStyle.Font, &panel.Y.Label.TextStyle.Font,
		&panel.X.Tick.Label.Font, &panel.Y.Tick.Label.Font, &panel.Legend.TextStyle.Font,
	} {
		f.Variant = "Sans"
	}
	if err := addOutage(panel, p, ends); err != nil {
		return nil, err
	}
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.White
	fine, bad := points{colour: blue()}, points{colour: red()}
	for _, c := range r.calls {
		if c.failed {
			bad.calls = append(bad.calls, c)
		} else {
			fine.calls = append(fine.calls, c)
		}
	}
	panel.Add(grid, fine, bad)
	panel.Legend.Top = true
	if r.failed() > 0 {
		panel.Legend.Add("returned nil", fine)
		panel.Legend.Add("failed", bad)
	}
	return panel, nil
}

// addOutage shades the time when Redis was away, and says in what way.
func addOutage(panel *plot.Plot, p plan, ends [2]float64) error {
	from := p.healthy
	for _, phase := range []struct {
		what   string
		length time.Duration
		shade  color.Color
	}{{"Redis is frozen", p.frozen, light()}, {"killed", p.killed, dark()}} {
		begin, end := from.Seconds(), (from + phase.length).Seconds()
		shade, err := plotter.NewPolygon(plotter.XYs{{X: begin, Y: ends[0]}, {X: end, Y: ends[0]}, {X: end, Y: ends[1]}, {X: begin, Y: ends[1]}})
		if err != nil {
			return err
		}
		shade.Color, shade.Width = phase.shade, 0
		label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: begin, Y: ends[0]}}, Labels: []string{phase.what}})
		if err != nil {
			return err
		}
		label.TextStyle[0].Font.Variant = "Sans"
		label.Offset = vg.Point{X: 4, Y: 4}
		panel.Add(shade, label)
		from += phase.length
	}
	return nil
}

// decades are ticks at powers of ten of a second, in words.
func decades(ends [2]float64) (ticks plot.ConstantTicks) {
	for v := ends[0]; v < ends[1]*1.1; v *= 10 {
		label := strconv.FormatFloat(v*1e3, 'g', 3, 64) + " ms"
		if v > 0.5 {
			label = strconv.FormatFloat(v, 'f', 0, 64) + " s"
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}
