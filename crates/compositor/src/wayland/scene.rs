//! What is visible and where: which windows, in which order, scaled by how much.
//!
//! One *base* window fills the picture: the topmost that is no dialog and no menu. A base of another size than the
//! picture is scaled to fit, black around it. What lies above it (dialogs, menus, tooltips) is placed in the base's
//! coordinates and scaled with it; what lies under it is not visible.

use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, Rectangle, Size};
use smithay::wayland::compositor::{
    SubsurfaceCachedState, SurfaceAttributes, TraversalAction, with_states, with_surface_tree_upward,
};
use smithay::wayland::shell::xdg::{PopupSurface, SurfaceCachedState, ToplevelSurface};

use super::content::{content_size, with_content};

/// A window that may be seen.
#[derive(Clone, Debug)]
pub(crate) enum Window {
    /// Of a Wayland client.
    Toplevel(ToplevelSurface),
    /// Of an X11 client by Xwayland.
    X11(X11Window),
}

/// A mapped X11 window.
#[derive(Clone, Debug)]
pub(crate) struct X11Window {
    /// The X server's number of it.
    pub(crate) id: u32,
    /// Xwayland's surface for it, once known.
    pub(crate) surface: Option<WlSurface>,
    /// Where it is on the X screen.
    pub(crate) rect: Rectangle<i32, Logical>,
    /// A menu, tooltip or dialog, which is never a base.
    pub(crate) floating: bool,
    /// It manages itself: never given the keyboard.
    pub(crate) override_redirect: bool,
}

impl Window {
    pub(crate) fn surface(&self) -> Option<&WlSurface> {
        match self {
            Window::Toplevel(toplevel) => Some(toplevel.wl_surface()),
            Window::X11(window) => window.surface.as_ref(),
        }
    }

    fn is_floating(&self, screen: Size<i32, Logical>) -> bool {
        match self {
            Window::Toplevel(toplevel) => toplevel.parent().is_some(),
            // Old games make their own full-screen window, without asking the window manager.
            Window::X11(window) if window.override_redirect => {
                window.rect.size.w < screen.w || window.rect.size.h < screen.h
            }
            Window::X11(window) => window.floating,
        }
    }

    /// The part of the surface that is the window (without shadows), in surface coordinates.
    fn geometry(&self) -> Option<Rectangle<i32, Logical>> {
        let surface = self.surface()?;
        let whole = Rectangle::from_size(content_size(surface)?);
        let set = with_states(surface, |states| states.cached_state.get::<SurfaceCachedState>().current().geometry);
        Some(set.and_then(|set| set.intersection(whole)).filter(|set| !set.is_empty()).unwrap_or(whole))
    }
}

/// From base coordinates to the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) scale: f64,
    pub(crate) offset: Point<f64, Logical>,
}

impl View {
    /// The view that fits a base of this size into the picture.
    ///
    /// A base that differs by a pixel is shown as it is: a game that wanted an odd size should stay sharp.
    pub(crate) fn fit(base: Size<i32, Logical>, picture: Size<i32, Logical>) -> View {
        if (base.w - picture.w).abs() <= 1 && (base.h - picture.h).abs() <= 1 {
            return View { scale: 1.0, offset: (0.0, 0.0).into() };
        }
        let (base, picture) = (base.to_f64(), picture.to_f64());
        let scale = (picture.w / base.w).min(picture.h / base.h);
        let margin = |whole: f64, part: f64| ((whole - part * scale) / 2.0).round().max(0.0);
        View { scale, offset: (margin(picture.w, base.w), margin(picture.h, base.h)).into() }
    }

    pub(crate) fn to_picture(self, point: Point<f64, Logical>) -> Point<f64, Logical> {
        (point.x * self.scale + self.offset.x, point.y * self.scale + self.offset.y).into()
    }

    pub(crate) fn to_base(self, point: Point<f64, Logical>) -> Point<f64, Logical> {
        ((point.x - self.offset.x) / self.scale, (point.y - self.offset.y) / self.scale).into()
    }
}

/// A visible surface.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) surface: WlSurface,
    /// Where its upper left corner is, in base coordinates.
    pub(crate) position: Point<i32, Logical>,
    /// Its size in surface coordinates.
    pub(crate) size: Size<i32, Logical>,
    /// Index of its window in the stack.
    pub(crate) window: usize,
}

/// Everything visible, from bottom to top.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) view: View,
    pub(crate) elements: Vec<Element>,
}

/// Surfaces of one scene at most. A game needs a handful; more would make every frame of a malicious one expensive.
const ELEMENT_LIMIT: usize = 256;

impl Scene {
    /// The scene of these windows, from bottom to top, on a screen of this size.
    pub(crate) fn new(stack: &[Window], popups: &[PopupSurface], screen: Size<i32, Logical>) -> Scene {
        let visible: Vec<(usize, Rectangle<i32, Logical>)> =
            stack.iter().enumerate().filter_map(|(index, window)| Some((index, window.geometry()?))).collect();
        let base = visible.iter().rposition(|(index, _)| !stack[*index].is_floating(screen));
        let view = match base.map(|at| visible[at].1.size) {
            Some(size) => View::fit(size, screen),
            None => View { scale: 1.0, offset: (0.0, 0.0).into() },
        };
        let base_size = base.map_or(screen, |at| visible[at].1.size);
        let mut scene = Scene { view, elements: Vec::new() };
        for (index, geometry) in &visible[base.unwrap_or(0)..] {
            let window = &stack[*index];
            let origin: Point<i32, Logical> = match window {
                Window::X11(window) => window.rect.loc,
                Window::Toplevel(toplevel) if toplevel.parent().is_some() => {
                    ((base_size.w - geometry.size.w) / 2, (base_size.h - geometry.size.h) / 2).into()
                }
                Window::Toplevel(_) => (0, 0).into(),
            };
            if let Some(surface) = window.surface() {
                scene.add_tree(surface, origin - geometry.loc, *index);
                scene.add_popups(surface, origin, popups, *index);
            }
        }
        scene
    }

    fn add_tree(&mut self, root: &WlSurface, origin: Point<i32, Logical>, window: usize) {
        let elements = &mut self.elements;
        with_surface_tree_upward(
            root,
            origin,
            |surface, states, parent| {
                let mut position = *parent;
                if surface != root {
                    position += states.cached_state.get::<SubsurfaceCachedState>().current().location;
                }
                // A surface without content hides its children too.
                if content_size_of(states).is_some() {
                    TraversalAction::DoChildren(position)
                } else {
                    TraversalAction::SkipChildren
                }
            },
            |surface, states, parent| {
                let mut position = *parent;
                if surface != root {
                    position += states.cached_state.get::<SubsurfaceCachedState>().current().location;
                }
                if let Some(size) = content_size_of(states)
                    && elements.len() < ELEMENT_LIMIT
                {
                    elements.push(Element { surface: surface.clone(), position, size, window });
                }
            },
            |_, _, _| true,
        );
    }

    /// Adds the popups whose parent is this surface, at `origin` (of the parent's window geometry), and theirs.
    fn add_popups(&mut self, parent: &WlSurface, origin: Point<i32, Logical>, popups: &[PopupSurface], window: usize) {
        for popup in popups.iter().filter(|popup| popup.get_parent_surface().as_ref() == Some(parent)) {
            if self.elements.len() >= ELEMENT_LIMIT {
                return;
            }
            let surface = popup.wl_surface();
            let Some(size) = content_size(surface) else { continue };
            let placed = popup.with_pending_state(|state| state.geometry.loc);
            let set = with_states(surface, |states| states.cached_state.get::<SurfaceCachedState>().current().geometry);
            let geometry = set.unwrap_or(Rectangle::from_size(size));
            let origin = origin + placed;
            self.add_tree(surface, origin - geometry.loc, window);
            self.add_popups(surface, origin, popups, window);
        }
    }

    /// True when this surface is seen.
    pub(crate) fn shows(&self, surface: &WlSurface) -> bool {
        self.elements.iter().any(|element| element.surface == *surface)
    }

    /// The topmost surface at a place of the picture that takes input there, and the place in its coordinates.
    pub(crate) fn at(&self, place: Point<f64, Logical>) -> Option<(&Element, Point<f64, Logical>)> {
        let place = self.view.to_base(place);
        self.elements.iter().rev().find_map(|element| {
            let local = place - element.position.to_f64();
            let inside = Rectangle::from_size(element.size).to_f64().contains(local);
            (inside && takes_input(&element.surface, local)).then_some((element, local))
        })
    }

    /// A place of the picture in a surface's coordinates, inside the surface or not.
    pub(crate) fn local(&self, surface: &WlSurface, place: Point<f64, Logical>) -> Option<Point<f64, Logical>> {
        let element = self.elements.iter().find(|element| element.surface == *surface)?;
        Some(self.view.to_base(place) - element.position.to_f64())
    }
}

fn content_size_of(states: &smithay::wayland::compositor::SurfaceData) -> Option<Size<i32, Logical>> {
    super::content::size_of(states)
}

fn takes_input(surface: &WlSurface, local: Point<f64, Logical>) -> bool {
    surface.is_alive()
        && with_states(surface, |states| {
            let mut cached = states.cached_state.get::<SurfaceAttributes>();
            cached.current().input_region.as_ref().is_none_or(|region| region.contains(local.to_i32_floor()))
        })
}

/// True when the element alone fills the picture, pixel by pixel: its buffer can be converted as it is.
pub(crate) fn is_direct(scene: &Scene, picture: Size<i32, Logical>) -> bool {
    let [element] = scene.elements.as_slice() else { return false };
    scene.view.scale == 1.0
        && element.position == Point::from((0, 0))
        && with_content(&element.surface, |content| {
            content.is_some_and(|content| match &content.pixels {
                super::content::Pixels::Shm(data) => {
                    let same = |have: i32, want: i32| have & !1 == want;
                    same(data.width, picture.w)
                        && same(data.height, picture.h)
                        && content.source.is_none()
                        && content.transform == smithay::utils::Transform::Normal
                        && content.size == Size::from((data.width, data.height))
                }
                super::content::Pixels::Solid(_) => false,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: (i32, i32), picture: (i32, i32), scale: f64, offset: (f64, f64)) {
        let view = View::fit(base.into(), picture.into());
        assert_eq!((view.scale, view.offset), (scale, offset.into()), "{base:?} in {picture:?}");
        let place = Point::from((100.0, 50.0));
        let there = view.to_base(view.to_picture(place));
        assert!((there.x - place.x).abs() < 1e-9 && (there.y - place.y).abs() < 1e-9);
    }

    #[test]
    fn windows_are_fitted_with_their_aspect() {
        check((1280, 720), (1280, 720), 1.0, (0.0, 0.0));
        check((1281, 721), (1280, 720), 1.0, (0.0, 0.0));
        check((640, 480), (1280, 720), 1.5, (160.0, 0.0));
        check((2560, 720), (1280, 720), 0.5, (0.0, 180.0));
    }
}
