"""The built-in page: index.html, page.js and page.css, served as they are, and the policy that confines them."""

from __future__ import annotations

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
"""The Content-Security-Policy of the page: its own script, style and API, nothing inline and nothing from elsewhere."""
