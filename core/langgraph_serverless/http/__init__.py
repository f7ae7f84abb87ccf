"""HTTP: FastAPI routers, the wire's schemas, and the one table from errors to responses. No decisions are taken here."""
