//! What becomes of splice sections: cues, their repeats and cancels, and what is wrong with them.
