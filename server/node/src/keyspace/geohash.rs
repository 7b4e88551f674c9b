//! Places on the globe as 52-bit integers, which is what the scores of a geo set are: longitude and latitude cut in
//! 2^26 parts each, their bits interleaved. Formulas in the order of Redis', so that every bit of a result is the
//! same.

/// A longitude and a latitude in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    pub longitude: f64,
    pub latitude: f64,
}

/// Degrees; the poles are left out (EPSG:900913).
const LONGITUDES: Span = Span { min: -180.0, max: 180.0 };
const LATITUDES: Span = Span { min: -85.051_128_78, max: 85.051_128_78 };
/// Halvings of each of the two in a score.
const STEPS_MAX: u32 = 26;

const EARTH_RADIUS_M: f64 = 6_372_797.560_856;
/// Half of what a Mercator map is wide.
const MERCATOR_MAX_M: f64 = 20_037_726.37;
const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;

#[derive(Clone, Copy, Debug)]
struct Span {
    min: f64,
    max: f64,
}

/// What is looked for around a place.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// All that is not farther.
    Circle { radius: f64 },
    /// All whose distance along a meridian and along a parallel is at most half of these.
    Box { width: f64, height: f64 },
}

/// An area around a place.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub center: Place,
    /// In its unit of length.
    pub shape: Shape,
    /// Meters in that unit.
    pub unit_m: f64,
}

/// A cell of the grid that halves the globe `steps` times in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u32,
}

/// Does the globe have it, as far as scores reach?
pub fn is_valid(place: Place) -> bool {
    (LONGITUDES.min..=LONGITUDES.max).contains(&place.longitude)
        && (LATITUDES.min..=LATITUDES.max).contains(&place.latitude)
}

/// The score of a valid place.
pub fn score(place: Place) -> u64 {
    Cell::of(place, LONGITUDES, LATITUDES, STEPS_MAX).bits
}

/// The place that a score stands for: the middle of its cell. A score of 0 is a place, too; what is no score of a
/// place gives one all the same.
#[allow(clippy::manual_midpoint)] // another formula might round otherwise than Redis'
pub fn place(score: f64) -> Place {
    let cell = Cell { bits: bits_of(score), steps: STEPS_MAX };
    let ([west, east], [south, north]) = cell.borders();
    Place {
        longitude: ((west + east) / 2.0).clamp(LONGITUDES.min, LONGITUDES.max),
        latitude: ((south + north) / 2.0).clamp(LATITUDES.min, LATITUDES.max),
    }
}

/// What Redis' C makes of a score that is no integer in range.
fn bits_of(score: f64) -> u64 {
    const TOO_BIG: f64 = 2.0 * (1_u64 << 63) as f64;
    if score < 0.0 {
        score as i64 as u64
    } else if score >= TOO_BIG {
        0
    } else {
        score as u64
    }
}

/// The eleven characters that the world calls a geohash (whose latitudes go to the poles; the last is always 0).
pub fn text(place: Place) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let cell = Cell::of(place, LONGITUDES, Span { min: -90.0, max: 90.0 }, STEPS_MAX);
    let mut text = [ALPHABET[0]; 11];
    for (index, character) in text.iter_mut().take(10).enumerate() {
        *character = ALPHABET[(cell.bits >> (52 - (index + 1) * 5)) as usize & 31];
    }
    text
}

/// Meters between two places on a sphere, by the haversine formula.
pub fn distance_m(a: Place, b: Place) -> f64 {
    let v = ((b.longitude * RADIANS_PER_DEGREE - a.longitude * RADIANS_PER_DEGREE) / 2.0).sin();
    if v == 0.0 {
        return latitude_distance_m(a.latitude, b.latitude);
    }
    let (from, to) = (a.latitude * RADIANS_PER_DEGREE, b.latitude * RADIANS_PER_DEGREE);
    let u = ((to - from) / 2.0).sin();
    2.0 * EARTH_RADIUS_M * (u * u + from.cos() * to.cos() * v * v).sqrt().asin()
}

fn latitude_distance_m(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_M * (b * RADIANS_PER_DEGREE - a * RADIANS_PER_DEGREE).abs()
}

impl Area {
    /// Meters from the center to a place, if it is inside.
    pub fn distance_m(&self, place: Place) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius } => {
                let distance = distance_m(self.center, place);
                // Of points on opposite sides of the globe the formula may say NaN: they are inside, too.
                (distance.is_nan() || distance <= radius * self.unit_m).then_some(distance)
            }
            Shape::Box { width, height } => {
                let (width, height) = (width * self.unit_m, height * self.unit_m);
                if latitude_distance_m(place.latitude, self.center.latitude) > height / 2.0 {
                    return None;
                }
                let abeam = Place { longitude: self.center.longitude, latitude: place.latitude };
                (distance_m(place, abeam) <= width / 2.0).then(|| distance_m(self.center, place))
            }
        }
    }

    /// Ranges of scores (from, and up to without it) that hold all places inside, in the order in which Redis looks
    /// into them; none twice in a row.
    pub fn score_ranges(&self) -> Vec<(f64, f64)> {
        let [west, south, east, north] = self.bounds();
        let mut steps = self.steps();
        let cell = |steps| Cell::of(self.center, LONGITUDES, LATITUDES, steps);
        let reaches = |cell: Cell| {
            let (_, [_, top]) = cell.moved(0, 1).borders();
            let (_, [bottom, _]) = cell.moved(0, -1).borders();
            let ([_, right], _) = cell.moved(1, 0).borders();
            let ([left, _], _) = cell.moved(-1, 0).borders();
            !(top < north || bottom > south || right < east || left > west)
        };
        if steps > 1 && !reaches(cell(steps)) {
            steps -= 1;
        }
        let middle = cell(steps);
        let ([left, right], [bottom, top]) = middle.borders();
        // Where the cell of the center reaches farther than the area, its neighbor has nothing.
        let skip = |x: i8, y: i8| {
            steps >= 2
                && (y < 0 && bottom < south
                    || y > 0 && top > north
                    || x < 0 && left < west
                    || x > 0 && right > east)
        };
        let order = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells: Vec<Cell> = Vec::with_capacity(order.len());
        for (x, y) in order {
            let cell = middle.moved(x, y);
            // Of a huge area the neighbors are the same. (Redis compares with the last one, but never the first.)
            if skip(x, y) || cells.len() > 1 && cells.last() == Some(&cell) {
                continue;
            }
            cells.push(cell);
        }
        cells.into_iter().map(Cell::scores).collect()
    }

    /// West, south, east, north, in degrees.
    fn bounds(&self) -> [f64; 4] {
        let Place { longitude, latitude } = self.center;
        let (width, height) = match self.shape {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let (width, height) = (self.unit_m * width, self.unit_m * height);
        let up = height / EARTH_RADIUS_M / RADIANS_PER_DEGREE;
        // The side that is nearer to its pole is the wider one in degrees.
        let side = if latitude < 0.0 { latitude - up } else { latitude + up };
        let aside = width / EARTH_RADIUS_M / (side * RADIANS_PER_DEGREE).cos() / RADIANS_PER_DEGREE;
        [longitude - aside, latitude - up, longitude + aside, latitude + up]
    }

    /// Halvings after which nine cells hold it.
    fn steps(&self) -> u32 {
        let mut range_m = self.unit_m
            * match self.shape {
                Shape::Circle { radius } => radius,
                Shape::Box { width, height } => {
                    ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
                }
            };
        if range_m == 0.0 {
            return STEPS_MAX;
        }
        let mut steps = 1;
        while range_m < MERCATOR_MAX_M {
            range_m *= 2.0;
            steps += 1;
        }
        steps -= 2;
        // Degrees are short near the poles.
        let latitude = self.center.latitude.abs();
        steps -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        steps.clamp(1, STEPS_MAX as i32) as u32
    }
}

impl Cell {
    fn of(place: Place, longitudes: Span, latitudes: Span, steps: u32) -> Self {
        let part = |value: f64, span: Span| {
            ((value - span.min) / (span.max - span.min) * (1_u64 << steps) as f64) as u32
        };
        let (x, y) = (part(place.longitude, longitudes), part(place.latitude, latitudes));
        Self { bits: spread(y) | spread(x) << 1, steps }
    }

    /// West and east, south and north.
    fn borders(self) -> ([f64; 2], [f64; 2]) {
        let parts = (1_u64 << self.steps) as f64;
        let border = |index: u32, span: Span| {
            let at = |index: u32| span.min + f64::from(index) / parts * (span.max - span.min);
            [at(index), at(index.wrapping_add(1))]
        };
        (border(gather(self.bits >> 1), LONGITUDES), border(gather(self.bits), LATITUDES))
    }

    /// The neighbor `x` cells to the east and `y` to the north, round the globe.
    const fn moved(self, x: i8, y: i8) -> Self {
        const EAST: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        const NORTH: u64 = 0x5555_5555_5555_5555;
        let unused = 64 - self.steps * 2;
        let (east, north) = (self.bits & EAST, self.bits & NORTH);
        // Bits of the other direction are set, or cleared, so that a carry, or a borrow, goes through them.
        let east = match x {
            1 => east.wrapping_add((NORTH >> unused) + 1),
            -1 => (east | NORTH >> unused).wrapping_sub((NORTH >> unused) + 1),
            _ => east,
        };
        let north = match y {
            1 => north.wrapping_add((EAST >> unused) + 1),
            -1 => (north | EAST >> unused).wrapping_sub((EAST >> unused) + 1),
            _ => north,
        };
        let east = if x == 0 { east } else { east & EAST >> unused };
        let north = if y == 0 { north } else { north & NORTH >> unused };
        Self { bits: east | north, steps: self.steps }
    }

    /// The scores of the places in it.
    fn scores(self) -> (f64, f64) {
        let aligned = |bits: u64| (bits << (52 - self.steps * 2)) as f64;
        (aligned(self.bits), aligned(self.bits + 1))
    }
}

/// Puts a zero behind every bit.
fn spread(value: u32) -> u64 {
    let mut bits = u64::from(value);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Every second bit, from the lowest on.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff_u64),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anywhere() -> impl Strategy<Value = Place> {
        (-180.0..180.0, -85.051_128_78..85.051_128_78)
            .prop_map(|(longitude, latitude)| Place { longitude, latitude })
    }

    proptest! {
        #[test]
        fn a_score_is_a_place_less_than_a_meter_away(there in anywhere()) {
            let back = place(score(there) as f64);
            prop_assert!(distance_m(there, back) < 1.0, "{there:?} {back:?}");
            prop_assert_eq!(score(back), score(there));
        }

        #[test]
        fn bits_are_spread_and_gathered(value: u32, other: u32) {
            prop_assert_eq!(gather(spread(value) | spread(other) << 1), value);
        }

        #[test]
        fn no_place_inside_is_outside_of_the_ranges(
            center in anywhere(), other in anywhere(), near: bool, radius_m in 1.0..500_000.0,
        ) {
            // Away from the edges of the map, behind which there is nothing.
            let center = Place { longitude: center.longitude * 0.9, latitude: center.latitude * 0.7 };
            let scale = if near { 0.02 } else { 1.0 };
            let other = Place {
                longitude: (center.longitude + other.longitude * scale).clamp(-180.0, 180.0),
                latitude: (center.latitude + other.latitude * scale).clamp(-85.0, 85.0),
            };
            let area = Area { center, shape: Shape::Circle { radius: radius_m }, unit_m: 1.0 };
            let found = score(other) as f64;
            if area.distance_m(place(found)).is_some() {
                let ranges = area.score_ranges();
                let inside = ranges.iter().any(|(from, to)| (*from..*to).contains(&found));
                prop_assert!(inside, "{:?}", ranges);
            }
        }

        #[test]
        fn no_score_makes_it_panic(score in any::<f64>(), radius in any::<f64>(), there in anywhere()) {
            let area = Area { center: there, shape: Shape::Circle { radius: radius.abs() }, unit_m: 1.0 };
            let _ = (area.score_ranges(), area.distance_m(place(score)), text(place(score)));
        }
    }

    #[test]
    fn the_world_knows_this_hash() {
        assert_eq!(&text(place(score(Place { longitude: -5.6, latitude: 42.6 }) as f64)), b"ezs42e44yx0");
    }
}
