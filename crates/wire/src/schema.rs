//! What the messages look like, as data: names, order, limits and documentation of every field.
//!
//! Written by the macros that declare the types, so that it cannot differ from the codec.

/// The form of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// One byte, 0 or 1.
    Bool,
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Two bytes, two's complement.
    I16,
    /// Four bytes, two's complement.
    I32,
    /// UTF-8 after its length in bytes as `u32`.
    Text,
    /// Bytes after their number as `u32`.
    Bytes,
    /// One byte, 0 or 1, then the value when 1.
    Option(&'static Shape),
    /// So many values.
    Array(&'static Shape, usize),
    /// A number with a meaning.
    Number(&'static Number),
    /// Fields in order.
    Struct(&'static Struct),
    /// One byte.
    Enum(&'static Enum),
    /// One byte, then the fields of what it chose.
    Union(&'static Union),
}

/// A number with a name of its own.
#[derive(Debug)]
pub struct Number {
    /// Its Rust name.
    pub name: &'static str,
    /// Documentation, line by line.
    pub doc: &'static [&'static str],
    /// How it travels.
    pub shape: Shape,
}

/// A struct.
#[derive(Debug)]
pub struct Struct {
    /// Its Rust name.
    pub name: &'static str,
    /// Documentation, line by line.
    pub doc: &'static [&'static str],
    /// In the order in which they travel.
    pub fields: &'static [Field],
}

/// A field of a struct or of a union's variant.
#[derive(Debug)]
pub struct Field {
    /// Its Rust name; `value` where Rust has none.
    pub name: &'static str,
    /// Documentation, line by line.
    pub doc: &'static [&'static str],
    /// Its form.
    pub shape: Shape,
    /// Highest number, or length in bytes; `u32::MAX` = none but the form's.
    pub max: u32,
}

/// A choice without payloads.
#[derive(Debug)]
pub struct Enum {
    /// Its Rust name.
    pub name: &'static str,
    /// Documentation, line by line.
    pub doc: &'static [&'static str],
    /// Byte and Rust name of each.
    pub variants: &'static [(u8, &'static str)],
}

/// A choice with payloads.
#[derive(Debug)]
pub struct Union {
    /// Its Rust name.
    pub name: &'static str,
    /// Documentation, line by line.
    pub doc: &'static [&'static str],
    /// What can be chosen.
    pub variants: &'static [Variant],
}

/// One choice of a union.
#[derive(Debug)]
pub struct Variant {
    /// Its byte.
    pub tag: u8,
    /// Its Rust name.
    pub name: &'static str,
    /// Documentation, line by line.
    pub doc: &'static [&'static str],
    /// In the order in which they travel.
    pub fields: &'static [Field],
}
