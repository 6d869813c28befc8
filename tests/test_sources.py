"Every data set of Tables 3 and 4, read from a small tree of its layout; and what becomes of bad files in it."
import gzip, io, pickle, re, struct, tarfile, zlib

import av
import numpy as np
import pytest
from PIL import Image

from lvm_lite.evaluate import PROTOCOLS, conditioned, open_protocol
from lvm_lite.pretokenize import row_works
from lvm_lite.readers import Take, read_image, read_numbers, read_video
from lvm_lite.sentences import item, sentence
from lvm_lite.sources import DATA_SETS, open_source, row_sources
from lvm_lite.tasks import PALETTES, TABLE3, plugged, view_segmentation
from lvm_lite.world import Clip, Scene
from tests.trees import FRAMES, TREES, encoded, film, put

SPLIT = {"kinetics600": "validation"}  # Table 4's: only its validation split is named


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for folder, tree in TREES.items(): tree(root / folder)
    return root


def test_every_data_set_has_a_tree(): assert set(TREES) == set(DATA_SETS)


@pytest.mark.parametrize("folder", DATA_SETS)
def test_layout(folder, data):
    "Each item reads, with every annotation that the set is said to have, at the size asked for."
    described = DATA_SETS[folder]
    source = open_source(folder, data / folder, SPLIT.get(folder, "train"), size=16)
    for i in range(len(source)):
        found = source[i]
        assert isinstance(found, Clip if described.unit == "video" else Scene)
        assert (found.images.shape if described.unit == "video" else found.image.shape) == (*[16] * (2 + (described.unit == "video")), 3)
        for field in described.fields: assert getattr(found, field) is not None, field
        assert found.palette == described.palette and found.name == f"{folder}/{source.names[i]}"
    assert source.problems == source.listed  # nothing but what the tree's lists promise and the tree does not hold


def items(folder, data, **options):
    source = open_source(folder, data / folder, SPLIT.get(folder, "train"), size=16, **options)
    return source, [source[i] for i in range(len(source))]


def test_splits(data):
    assert len(open_source("ucf101", data / "ucf101", size=16)) == 2
    assert open_source("ucf101", data / "ucf101", "test", size=16).names == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g03_c01.avi"]
    assert open_source("hmdb51", data / "hmdb51", size=16).names == ["clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"]
    assert open_source("hmdb51", data / "hmdb51", "test", size=16).names == ["clap/a b_clap_f_cm_np1_fr_med_1.avi"]
    assert open_source("ssv2", data / "ssv2", "validation", size=16).names == ["3.webm"]
    assert open_source("multisports", data / "multisports", "validation", size=16).names == ["football/v_b_c001.mp4"]
    assert open_source("moments", data / "moments", "validation", size=16).names == ["clapping/yt-2_2.mp4"]


def test_listed_and_gone(data):
    assert items("kinetics700", data)[0].problems == ["gone_000000_000010: listed, but not in train"]
    with pytest.raises(ValueError, match="kinetics700/gone_000000_000010: listed, but not in train"): items("kinetics700", data, on_error="raise")


def test_clips_within_a_video(data):
    assert open_source("ava", data / "ava", size=16).names == ["-5KQ66BBWC4.mkv@2", "-5KQ66BBWC4.mkv@3"]
    source, (first, second) = items("ava", data, frames=4, stride=1)
    assert [round(c.images[0].mean()) for c in (first, second)] == pytest.approx([200, 300 % 250], abs=8)  # frames 20 and 30 at 10 a second
    assert open_source("ego4d", data / "ego4d", size=16).names == ["uid-1.mp4@0"]


def test_pictures_in_other_clothes(data):
    source = open_source("imagenet", data / "imagenet", size=16)
    odd = [source[i].image for i, name in enumerate(source.names) if "n02105855" in name]
    assert sorted(round(x.mean() / 10) for x in odd) == [3, 4, 5]  # the PNG, the CMYK and the grey one
    assert source[0].pair.mean() == pytest.approx(source[1].image.mean(), abs=2)
    assert (open_source("objaverse", data / "objaverse", size=16)[0].images == 255).all()  # nothing, over white


def test_ade20k(data):
    _, found = items("ade20k", data)
    assert [s.classes[0, 0] for s in found[:3]] == [255, 1, 150]


def test_cityscapes(data):
    scene = open_source("cityscapes", data / "cityscapes", size=24)[0]
    assert set(np.unique(scene.classes)) == {1, 14, 19, 255}
    assert set(np.unique(scene.instances)) <= set(range(5))
    assert (scene.instances[scene.classes == 14] == scene.instances[scene.classes == 14][0]).all()


def test_coco(data):
    scene = open_source("coco", data / "coco", size=32, on_error="raise")[0]
    assert scene.labels.tolist() == [18, 44]                      # the larger first, the crowd left out
    assert scene.boxes.tolist() == [[4, 5, 12, 16], [5, 6, 6, 11]]  # 32 x 24 pixels stretched to 32 x 32
    assert set(np.unique(scene.instances)) == {0, 1, 2}
    assert scene.keypoints.shape == (1, 17, 3) and scene.keypoints[0, :, 2].sum() == 2
    assert (scene.classes == 200).all()
    assert open_source("coco", data / "coco", want=set(), size=16)[0].boxes is None
    assert open_source("coco", data / "coco", want={"labels"}, size=16)[0].labels.tolist() == [18, 44]


def test_vipseg(data):
    clip = open_source("vipseg", data / "vipseg", size=24)[0]
    assert set(np.unique(clip.classes)) == {0, 12, 61} and set(np.unique(clip.instances)) == {0, 1, 2}


@pytest.mark.parametrize("folder", ["youtube-vos", "davis"])
def test_video_objects(folder, data): assert set(np.unique(open_source(folder, data / folder, size=24)[0].instances)) == {0, 1, 2}


def test_co3d(data):
    clip = open_source("co3d", data / "co3d", size=24)[0]
    assert len(open_source("co3d", data / "co3d")) == 1
    assert sorted(np.unique(clip.depth)) == [0, 0.5, 1] and set(np.unique(clip.instances)) == {0, 1}
    assert (clip.depth[clip.instances > 0] == 1).all()


def test_noise_is_not_scaled_away(data):
    scene = open_source("sidd", data / "sidd", size=16)[0]
    assert scene.image.std() > 60 and (scene.image == scene.pair).all()


def test_pairs(data):
    for folder in ("lol", "instructpix2pix"):
        scene = open_source(folder, data / folder, size=16)[0]
        assert scene.pair.mean() - scene.image.mean() == pytest.approx(100, abs=3)
    assert "0000002: listed" in open_source("instructpix2pix", data / "instructpix2pix").problems[0]


def test_every_row_makes_a_sentence(data, tmp_path):
    "All forty rows, from trees in the layouts of their data sets. A set too small for eight pairs is used several times over."
    made = set()
    for row in TABLE3.values():
        if row.annotation in ("Mask2Former", "Depth Anything"): continue  # below
        sources = row_sources(row, data, size=16, frames=8 if row.unit == "video" and row.input != row.output else 16)
        assert sources, row.name
        for name, source in sources.items():
            assert sentence(row, Eight(source), (0, 0)).shape == (16, 16, 16, 3), name
        made.add(row.name)
    for row in TABLE3.values():
        if row.annotation not in ("Mask2Former", "Depth Anything") or row.unit == "video": continue
        field = "classes" if row.annotation == "Mask2Former" else "depth"
        folders = {}
        for folder in ("imagenet", "coco"):
            for name in open_source(folder, data / folder, want=set()).names:
                put(tmp_path / folder / f"{name.rsplit('.', 1)[0]}.png", encoded(np.ones((6, 8), np.uint8), "PNG"))
            folders[folder] = {field: tmp_path / folder}
        for name, source in row_sources(row, data, size=16, annotations=folders, palette="ade20k").items():
            assert sentence(row, Eight(source), (0, 0)).shape == (16, 16, 16, 3), name
        made.add(row.name)
    assert set(TABLE3) - made == {"charades-v1-segmentation-map-to-video"}  # its masks come from an annotator that runs on the frames
    with pytest.raises(ValueError, match="no classes in Charades v1"): row_sources("charades-v1-segmentation-map-to-video", data)
    row = plugged(TABLE3["charades-v1-segmentation-map-to-video"], {"Mask2Former": lambda images: 255 - images})
    for source in row_sources(row, data, size=16, frames=8).values():
        made_of = sentence(row, source, (0, 0))
        assert (made_of[:8] == 255 - made_of[8:]).all()


def test_training_and_evaluation_draw_imagenets_masks_alike(data, tmp_path):
    "A network's classes are COCO's, up to 200: one that the sample world's nine colours do not reach is in both, in one colour."
    for split in ("train", "validation"):
        for name in open_source("imagenet", data / "imagenet", split, want=set()).names:
            put(tmp_path / f"{name.rsplit('.', 1)[0]}.png", encoded(np.full((6, 8), 200, np.uint8), "PNG"))
    trained, = row_sources("imagenet-1k-segmentation-map-to-image", data, size=16, annotations=dict(imagenet=dict(classes=tmp_path)), on_error="raise").values()
    protocol, drawn = conditioned(PROTOCOLS["imagenet-synthesis"], folder=tmp_path)
    queries, training, _ = open_protocol(protocol, data, 16, drawn)
    for source in (trained, queries, training): assert (view_segmentation(source[0], 0) == PALETTES["coco"][200]).all()


class Eight:
    "A small source as often as it takes to fill a sentence."
    def __init__(self, source): self.source, self.name = source, source.name
    def __len__(self): return max(8, len(self.source))
    def __getitem__(self, i): return self.source[i % len(self.source)]


def bomb(side):
    "A PNG header that promises side x side pixels, and nothing behind it."
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BAD = {  # what is wrong -> (data set, file, its bytes, part of the reason)
    "truncated picture": ("masks", "images/a/3.jpg", encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[:900], "not a whole picture"),
    "no picture": ("masks", "images/a/3.jpg", b"<html>404</html>", "not a whole picture"),
    "missing annotation": ("masks", "masks/a/3.png", None, "no classes"),
    "mask of another size": ("masks", "masks/a/3.png", encoded(np.zeros((9, 9), np.uint8), "PNG"), "classes of (9, 9) pixels"),
    "unknown label": ("masks", "masks/a/3.png", encoded(np.full((24, 32), 77, np.uint8), "PNG"), "unknown label id 77"),
    "unknown Cityscapes label": ("cityscapes", "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png",
                                 encoded(np.full((24, 32), 99, np.uint8), "PNG"), "unknown label ids [99]"),
    "decompression bomb": ("masks", "images/a/3.jpg", bomb(30_000), "taken for a decompression bomb"),
    "bomb of a mask": ("masks", "masks/a/3.png", bomb(30_000), "taken for a decompression bomb"),
    "truncated video": ("ssv2", "20bn-something-something-v2/2.webm", b"\x1aE\xdf\xa3", "not a whole video"),
    "missing frame's mask": ("youtube-vos", "train/Annotations/ab/00010.png", None, "no mask for 00010.jpg"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_items(fault, tmp_path):
    "Skipped and named, or refused, as the user chose."
    folder, file, content, reason = BAD[fault]
    TREES[folder](tmp_path)
    if folder == "youtube-vos":  # a second clip, which is whole
        from tests.trees import vos
        vos(tmp_path, "train/JPEGImages/cd", "train/Annotations/cd")
    put(tmp_path / file, content) if content is not None else (tmp_path / file).unlink()
    source = open_source(folder, tmp_path, size=16)
    for i in range(len(source)): source[i]
    assert len(set(source.problems)) == 1 and reason in source.problems[0], source.report()
    assert reason in source.report() and "1 passed over" in source.report()
    strict = open_source(folder, tmp_path, size=16, on_error="raise")
    with pytest.raises(ValueError, match=f"{folder}/") as refused: [strict[i] for i in range(len(strict))]
    assert reason in str(refused.value)


def test_a_video_that_ends_early(tmp_path):
    for k in range(2): film(tmp_path / f"{k}.mp4", k, frames=(FRAMES, 7)[k])
    source, found = (s := open_source("videos", tmp_path, size=16), [s[i] for i in range(2)])
    assert source.problems == ["1.mp4: ends after 7 of 16 frames"] and found[1].name == "videos/0.mp4"


def test_filter(data):
    source, found = items("pictures", data, keep=lambda scene: scene.image.mean() < 35)
    assert {s.name for s in found[4:]} <= {s.name for s in found[:4]} and len(set(source.problems)) == len(source.problems) == 5
    assert source.problems[0] == "holiday/4.jpg: kept out by the filter"


def test_half_a_tar(tmp_path):
    TREES["datacomp"](tmp_path)
    whole = (tmp_path / "00000001.tar").read_bytes()
    (tmp_path / "00000001.tar").write_bytes(whole[:len(whole) // 3 + 100])
    source = open_source("datacomp", tmp_path, size=16)
    assert 10 < len(source) < 20
    [source[i] for i in range(len(source))]
    assert any("00000001.tar" in p for p in source.problems), source.report()


def test_counted_tars(tmp_path):
    "With img2dataset's counts beside them, tars are opened when a picture of theirs is wanted; the same sentences, each from one tar."
    TREES["datacomp"](tmp_path)
    eager = open_source("datacomp", tmp_path, size=16)
    for n in range(2): put(tmp_path / f"{n:08}_stats.json", '{"count": 11, "successes": 10, "status_dict": {"success": 10, "404": 1}}')
    late = open_source("datacomp", tmp_path, size=16)
    assert (len(eager.names._kept), len(late.names._kept)) == (2, 0)
    assert list(late.names) == list(eager.names) and late.problems == []
    for n in range(10):
        assert (sentence("inpainting", late, (3, n)) == sentence("inpainting", eager, (3, n))).all()
        assert len({item("inpainting", late, (3, n), k) // 10 for k in range(8)}) == 1
    whole = (tmp_path / "00000001.tar").read_bytes()
    (tmp_path / "00000001.tar").write_bytes(whole[:len(whole) // 2])
    cut = open_source("datacomp", tmp_path, size=16)
    [cut[i] for i in range(20)]
    assert "item 10: 00000001.tar: " in cut.problems[0] and any("pictures, not 10 as its _stats.json says" in p for p in cut.problems), cut.report()
    strict = open_source("datacomp", tmp_path, size=16, on_error="raise")
    with pytest.raises(ValueError, match="datacomp/item 10: 00000001.tar: "): strict[10]


def test_a_tar_that_reaches_outside(tmp_path):
    "Members with paths outside are named and left out, or the set is refused; a damaged picture inside is said in the same words every time."
    outside, root = tmp_path / "evil.jpg", tmp_path / "data"
    TREES["datacomp"](root)
    with tarfile.open(root / "00000001.tar", "a") as tar:
        for name, data in (("../evil.jpg", encoded(np.zeros((4, 4, 3), np.uint8))), (str(outside), b"x"), ("broken.jpg", b"no picture")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    source = open_source("datacomp", root, size=16)
    assert source.listed == [f"00000001.tar/{name}: a path outside the archive" for name in ("../evil.jpg", outside)]
    assert len(source) == 21 and [source[i] for i in range(21)] and not outside.exists()
    assert source.problems[2:] == ["00000001.tar/broken.jpg: not a whole picture (of no known format)"] and "3 passed over, 21 listed" in source.report()
    with pytest.raises(ValueError, match=r"datacomp/00000001.tar/../evil.jpg: a path outside the archive, and 1 more"):
        open_source("datacomp", root, on_error="raise")


def test_pickle_is_not_run(tmp_path):
    TREES["multisports"](tmp_path)
    put(tmp_path / "trainval/multisports_GT.pkl", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(Exception, match="posix|os.system|refused"): open_source("multisports", tmp_path)


def test_annotations_go_to_the_rows_that_show_them(data):
    drawn = lambda field: {"imagenet": {field: data / "what nobody drew"}}
    source, = row_sources("imagenet-1k-colourisation", data, annotations=drawn("depth"), size=32).values()
    assert source[0].depth is None and not source.problems
    with pytest.raises(ValueError, match="unknown annotation 'detph'"): row_sources("imagenet-1k-colourisation", data, annotations=drawn("detph"))


def test_masks_and_links_of_your_own(tmp_path):
    (tmp_path / "images").mkdir(); (tmp_path / "masks").mkdir()
    for k, one in enumerate((1, 255)):
        Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(tmp_path / f"images/{k}.png")
        Image.fromarray(np.uint8(one * np.eye(16))).save(tmp_path / f"masks/{k}.png")
    (tmp_path / "images/again").symlink_to(tmp_path / "images")  # in a circle
    source = open_source("masks", tmp_path, size=16)
    assert source.names == ["images/0.png", "images/1.png"] and (source[1].classes == np.eye(16)).all()
    assert "its numbers are 0 and 255" in source.problems[0]


def test_numbers_of_either_order_of_bytes(tmp_path):
    for order in "<>":
        Image.fromarray(np.arange(256, 512).reshape(16, 16).astype(f"{order}u2")).save(tmp_path / "m.tiff")
        assert read_numbers(tmp_path / "m.tiff").max() == 511
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(tmp_path / "f.tiff")
    for read in (read_numbers, read_image):
        with pytest.raises(ValueError, match="holds fractions"): read(tmp_path / "f.tiff")
    Image.fromarray(np.full((16, 16), 70_000, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(ValueError, match="holds numbers from 70000 to 70000"): read_image(tmp_path / "i.tiff")


DAMAGED = [ # data set, file of its tree, what stands there instead, what is said
    ("charades", "Charades/Charades_v1_train.csv", b"name,scene\n46GP8,Kitchen\n", "Charades_v1_train.csv has no column id; it has name, scene"),
    ("kinetics700", "train.csv", b"label,youtube_id,time_start\na,-abc,3\n", "train.csv has no column time_end; it has label, youtube_id, time_start"),
    ("kinetics700", "train.csv", b"youtube_id,time_start,time_end\n-abc,3,13\n-abd,three,13\n",
     "train.csv, line 3: '-abd,three,13', where .* a number in column time_start"),
    ("ava", "ava_train_v2.2.csv", b"-5KQ66BBWC4,0002\n-5KQ66BBWC4\n",
     "ava_train_v2.2.csv, line 2: '-5KQ66BBWC4', where text in column 1, a number in column 2"),
    ("jester", "jester-v1-train.csv", b"\xff\xfe\x00", "jester-v1-train.csv is no text in UTF-8"),
    ("hmdb51", "testTrainMulti_7030_splits/clap_test_split1.txt", b"a.avi\n", "clap_test_split1.txt: 'a.avi' has no flag of its split"),
    ("ssv2", "labels/train.json", b'[{"id": "1"}, {"label": "pen"}]', "labels/train.json, row 1 lacks id; it has label"),
    ("ssv2", "labels/train.json", b'[{"id": "1"}, {"la', "labels/train.json is no whole JSON"),
    ("coco", "annotations/instances_train2017.json", b'{"images": []}', "instances_train2017.json lacks annotations; it has images"),
    ("coco", "annotations/instances_train2017.json", b'{"images": [{"id": 1}], "annotations": []}', "instances_train2017.json: images, row 0 lacks file_name"),
    ("coco", "annotations/instances_train2017.json", b'{"images": [], "annotations": [{"image_id": 1, "area": 1, "bbox": [], "segmentation": []}]}',
     "annotations, row 0 lacks category_id"),
    ("coco", "annotations/panoptic_train2017.json", b'{"images": [], "annotations": [{"image_id": 1, "segments_info": [{"id": 1}]}]}',
     "segments_info, row 0 lacks category_id"),
    ("datacomp", "00000000_stats.json", b'{"count": 10}', "00000000_stats.json lacks successes; it has count"),
    ("datacomp", "00000000_stats.json", b"", "00000000_stats.json is no whole JSON"),
    ("multisports", "trainval/multisports_GT.pkl", pickle.dumps({"labels": []}), "multisports_GT.pkl lacks train_videos; it has labels"),
    ("ego4d", "ego4d.json", b'{"videos": [{"video_uid": "a"}]}', "ego4d.json: videos, row 0 lacks duration_sec"),
    ("co3d", "apple/set_lists/set_lists_fewview_train.json", b'{"val": []}', "set_lists_fewview_train.json lacks train"),
    ("instructpix2pix", "seeds.json", b'{"0000001": ["1"]}', "seeds.json is no list of lists"),
]


@pytest.mark.parametrize("folder, file, data, says", DAMAGED)
def test_a_damaged_list(folder, file, data, says, tmp_path):
    "A list that is cut short or lacks a column is an error of one line, which the other data sets of a run outlive."
    TREES[folder](tmp_path / folder)
    put(tmp_path / folder / file, data)
    with pytest.raises(ValueError, match=says): open_source(folder, tmp_path / folder, size=16)
    TREES["lol"](tmp_path / "lol")
    works, left_out = row_works(tmp_path, images=4, size=16)
    assert "lol-light-enhanced-image" in [w.name for w in works]
    assert any(re.search(says, line) for line in left_out) or "panoptic" in file  # which no row of Table 3 reads


def test_damaged_depth(tmp_path):
    "Co3D's depth is annotated in one file a category: cut short, its clips are named and passed over."
    TREES["co3d"](tmp_path)
    file = tmp_path / "apple/frame_annotations.jgz"
    whole = file.read_bytes()
    for data, says in ((whole[:len(whole) // 2], "no whole JSON"), (b"", "no whole JSON"),
                       (gzip.compress(b'[{"depth": {"path": "a"}}]'), "depth, row 0 lacks scale_adjustment")):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=f"co3d/apple/110_1: .*frame_annotations.jgz.*{says}"): open_source("co3d", tmp_path, size=16, on_error="raise")[0]


def test_a_trimmed_video(tmp_path):
    "An edit list's frames alone are read, and a file that ends early is refused with or without one."
    for codec, frames, cut in (("libx264", 0, 0), ("libx264", 2, 13), ("mpeg4", 2, 13), ("mpeg4", 0, 0)):
        path = tmp_path / "a.mp4"
        with av.open(str(path), "w", options=dict(movflags="faststart")) as out:
            stream = out.add_stream(codec, rate=12)
            stream.height, stream.width, stream.pix_fmt, stream.gop_size, stream.codec_context.max_b_frames = 64, 64, "yuv420p", 10, frames
            packets = [p for t in range(40)
                       for p in stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 6 * t, np.uint8), format="rgb24"))] + stream.encode()
            for p in packets:
                p.pts, p.dts = p.pts - cut, p.dts - cut
                out.mux(p)
        assert read_video(path, Take(16, 1, 16)).images.mean((1, 2, 3)) == pytest.approx(6 * np.arange(cut, cut + 16), abs=8)
        with pytest.raises(ValueError, match=f"ends after {40 - cut} of 64 frames"): read_video(path, Take(64, 1))
        whole = path.read_bytes()
        with pytest.raises(ValueError, match="frames that it declares|not a whole video"): read_video(whole[:int(len(whole) * 0.8)], Take(16, 4))
