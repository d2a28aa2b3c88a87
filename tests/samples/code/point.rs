//! Crate docs here.

/// A point in the plane.
#[derive(Debug)]
pub struct Point { x: f64 }

impl Point {
    /// Makes one.
    pub fn new(x: f64) -> Self { Point { x } }
}
