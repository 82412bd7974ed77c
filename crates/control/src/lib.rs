//! Control plane: REST API, session links, placement, catalogue, portal files.
