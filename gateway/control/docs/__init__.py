"""The page at ``/docs`` that shows the API's description, with Swagger UI served from here.

Imports aiohttp and the library's files; nothing of the project.

Promise: a browser loads nothing from anywhere else, and runs no script but these files.
"""
