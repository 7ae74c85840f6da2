"""What only this project needs: generators of its pages, and the targets of its own engine."""
