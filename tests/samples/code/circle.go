// Package shapes computes areas.
package shapes

import "math"

// Circle is a round shape.
type Circle struct {
	Radius float64 // in metres
}

/*
Area returns the surface.

It never fails.
*/
func (c Circle) Area() float64 {
	// pi r squared
	return math.Pi * c.Radius * c.Radius
}
