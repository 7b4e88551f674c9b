//! Strongly connected components by Tarjan's algorithm (1972), without recursion.

/// Something with numbered nodes and edges.
pub(super) trait Space {
    /// Node numbers lie below this.
    fn bound(&self) -> u32;

    /// A node's edge by its number, from 0; none ends the list.
    fn edge(&self, node: u32, number: u32) -> Option<Edge>;
}

/// What stands at a place of a node's list of edges.
pub(super) enum Edge {
    To(u32),
    /// Not an edge of this space.
    Hidden,
}

/// Each component of more than one node that can be reached from `roots`. A space has no edge from a node to itself.
pub(super) fn components(space: &impl Space, roots: impl IntoIterator<Item = u32>) -> Vec<Vec<u32>> {
    let mut search = Search {
        // 0: not seen; DONE: in a component already; else one more than the order in which it was seen, lowered to
        // the earliest node of the stack that it reaches.
        low: vec![0; space.bound() as usize],
        stack: Vec::new(),
        seen: 0,
        found: Vec::new(),
    };
    let mut path: Vec<Frame> = Vec::new();
    for root in roots {
        if search.low[root as usize] == 0 {
            path.push(search.enter(root));
        }
        while let Some(frame) = path.last_mut() {
            let number = frame.next_edge;
            frame.next_edge += 1;
            match space.edge(frame.node, number) {
                Some(Edge::Hidden) => {}
                Some(Edge::To(to)) => match search.low[to as usize] {
                    0 => path.push(search.enter(to)),
                    DONE => {}
                    low => {
                        let here = &mut search.low[frame.node as usize];
                        *here = low.min(*here);
                    }
                },
                None => {
                    let Frame { node, order, .. } = *frame;
                    path.pop();
                    let low = search.low[node as usize];
                    if low == order {
                        search.close(node);
                    }
                    if let Some(parent) = path.last() {
                        let parent = &mut search.low[parent.node as usize];
                        *parent = (*parent).min(low);
                    }
                }
            }
        }
    }
    search.found
}

const DONE: u32 = u32::MAX;

struct Frame {
    node: u32,
    order: u32,
    next_edge: u32,
}

struct Search {
    low: Vec<u32>,
    stack: Vec<u32>,
    seen: u32,
    found: Vec<Vec<u32>>,
}

impl Search {
    fn enter(&mut self, node: u32) -> Frame {
        self.seen += 1;
        self.low[node as usize] = self.seen;
        self.stack.push(node);
        Frame { node, order: self.seen, next_edge: 0 }
    }

    /// The node is the first of its component; the rest stands above it on the stack.
    fn close(&mut self, first: u32) {
        let start = self.stack.iter().rposition(|node| *node == first).unwrap_or(0);
        for node in &self.stack[start..] {
            self.low[*node as usize] = DONE;
        }
        if self.stack.len() - start > 1 {
            self.found.push(self.stack.split_off(start));
        } else {
            self.stack.truncate(start);
        }
    }
}
